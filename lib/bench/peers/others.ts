// Whether something else used the machine while a peer was measured. Peers' threads wait for each other spinning, as OpenMP does by itself:
// with somebody else on a core, TRL's step takes 5 to 40 times its time (ours, whose threads sleep, twice). Sleeping threads
// (OMP_WAIT_POLICY=PASSIVE) would help it there and double its step on an idle machine (0.5 and 1.1 s): peers are run as they are best.
import { cpus } from 'node:os';
import { summary } from '../measure.js';

/** Seconds: of the clock, and that processors have worked, for anybody and for this process. */
export interface Clock {
  cores: number;
  now: () => number;
  usedByAll: () => number;
  usedByUs: () => number;
}

const machine: Clock = {
  cores: cpus().length,
  now: () => performance.now() / 1000,
  usedByAll: () => cpus().reduce((sum, { times: t }) => sum + t.user + t.nice + t.sys + t.irq, 0) / 1000,
  usedByUs: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  },
};

/** Adds up what others used from `start` to `stop`, which is told what the measured process used. */
export class Others {
  private used = 0;
  private available = 0;

  constructor(private readonly clock: Clock = machine) {}

  start(): (cpuSeconds: number) => void {
    const { cores, now, usedByAll, usedByUs } = this.clock;
    const [began, all, us] = [now(), usedByAll(), usedByUs()];
    return (cpuSeconds) => {
      this.available += (now() - began) * cores;
      this.used += usedByAll() - all - (usedByUs() - us) - cpuSeconds;
    };
  }

  forget(): void {
    this.used = this.available = 0;
  }

  /** Of the machine's time. The kernel counts in hundredths of a second: 0 where there are too few of them to tell. */
  get share(): number {
    return this.available < 0.5 ? 0 : this.used / this.available;
  }
}

const BUSY = 0.1;
/** Median over fastest round. */
const UNSTEADY = 1.5;

/** A line for figures that others have spoilt. */
export function doubt(name: string, seconds: readonly number[], others: number): string | undefined {
  const advice = 'it suffers more from that than we do; measure on an idle machine';
  if (others > BUSY) return `${name}: doubtful, others used ${(100 * others).toFixed(0)} % of the machine during its rounds; ${advice}`;
  if (seconds.length === 0) return undefined;
  const { min, median } = summary(seconds);
  if (median <= UNSTEADY * min) return undefined;
  return `${name}: doubtful, its fastest round took ${min.toPrecision(2)} s, the middle one ${median.toPrecision(2)} s`;
}
