// Numbers of other projects' own running code (scripts/goldens/make_peer_goldens.py), in float64 where that code allows; ours are float32.
// A case that `differs` says where the peer means something else than docs/losses.md: there our number must not be the peer's.
import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { groupAdvantages, grpoLoss, policyLoss, type AdvantageConfig, type LossConfig, type LossMetrics } from '../../lib/index.js';

type Numbers = (number | null)[]; // null: NaN

interface Case {
  name: string;
  inputs: string;
  /** Fields of the input set that the batch is given beside the mask. */
  uses: string[];
  config: LossConfig;
  loss: number;
  gradLogits?: number[];
  gradLogps?: number[];
  metrics: Record<string, number>;
  /** Why the peer's number is not ours, and what we follow. */
  differs?: string;
  /** What differs; everything unless given. */
  differsIn?: ('loss' | 'gradient')[];
  /** Why the peer's shares of clipped tokens are not ours. */
  metricsDiffer?: string;
  /** We refuse this configuration. */
  refused?: boolean;
}
interface Goldens<C> {
  provenance: { package: string };
  inputs: Record<string, Record<string, Numbers> & { shape: [number, number, number] }>;
  cases: C[];
}

const read = <C>(name: string) => JSON.parse(readFileSync(join(__dirname, `../golden/peers/${name}.json`), 'utf8')) as Goldens<C>;
const floats = (values: Numbers) => Float32Array.from(values, (v) => v ?? NaN);
const FIELDS: Record<string, string> = { tokenAdvantages: 'advantages' };
const BYTES = ['mask', 'truncated'];

function run(golden: Goldens<Case>, c: Case) {
  const given = golden.inputs[c.inputs]!;
  const fields = ['mask', ...c.uses].map((name) => [
    FIELDS[name] ?? name,
    BYTES.includes(name) ? Uint8Array.from(given[name] as number[]) : floats(given[name]!),
  ]);
  const batch = { ...(Object.fromEntries(fields) as { advantages: Float32Array }), completionLength: given.shape[1] };
  if (c.gradLogps) {
    const result = policyLoss({ ...batch, logps: floats(given.logps!) }, c.config);
    return { ...result, gradient: result.gradLogps };
  }
  const targets = Int32Array.from(given.targets as number[]);
  const result = grpoLoss({ ...batch, logits: floats(given.logits!), vocabSize: given.shape[2], targets }, c.config);
  return { ...result, gradient: result.gradLogits };
}

const norm = (x: number[]) => Math.sqrt(x.reduce((s, v) => s + v * v, 0));

/** Errors in units of what is allowed: 1e-5 of the loss, 1e-5 of the gradient's length. */
function errors(c: Case, result: { loss: number; gradient: Float32Array }) {
  const wanted = c.gradLogits ?? c.gradLogps!;
  const off = norm(wanted.map((g, i) => g - result.gradient[i]!));
  return {
    loss: Math.abs(result.loss - c.loss) / (1e-5 * Math.max(1, Math.abs(c.loss))),
    gradient: off === 0 ? 0 : off / (1e-5 * norm(wanted)),
  };
}

function checkMetrics(c: Case, ours: LossMetrics) {
  const all: Record<string, number | undefined> = { ...ours.clipRatio, kl: ours.kl, entropy: ours.entropy };
  const comparable = Object.entries(c.metrics).filter(([name]) => !(c.metricsDiffer && name in ours.clipRatio));
  const off = comparable.filter(([name, value]) => !(Math.abs(all[name]! - value) < 1e-5 * Math.max(1, Math.abs(value))));
  expect(off.map(([name, value]) => `${name}: ${all[name]}, the peer has ${value}`)).toEqual([]);
}

describe.each(['trl_loss', 'verl_loss', 'openrlhf_loss', 'liger_loss'])('%s', (file) => {
  const golden = read<Case>(file);
  test.each(golden.cases.map((c, i) => [`${golden.provenance.package} ${i}: ${c.name}`, c] as const))('%s', (_name, c) => {
    for (const why of [c.differs, c.metricsDiffer]) expect(why ?? 'Nothing here means anything else.').toMatch(/^([A-Z]|verl).{30,}\.$/);
    if (c.refused) {
      expect(() => run(golden, c)).toThrow();
      return;
    }
    const result = run(golden, c);
    const off = errors(c, result);
    const differing = c.differs ? (c.differsIn ?? (['loss', 'gradient'] as const)) : [];
    if (!differing.includes('loss')) expect(off.loss).toBeLessThan(1);
    if (!differing.includes('gradient')) expect(off.gradient).toBeLessThan(1);
    if (c.differs) expect(Math.max(...differing.map((what) => off[what]))).toBeGreaterThan(10);
    else checkMetrics(c, result.metrics);
  });
});

interface AdvantageCase {
  name: string;
  op: string;
  rewards: Numbers;
  numGenerations?: number;
  groupOffsets?: number[];
  config: AdvantageConfig;
  advantages: number[];
  differs?: string;
}
const advantages = read<AdvantageCase>('advantages').cases.filter((c) => c.op === 'groupAdvantages');

test.each(advantages.map((c) => [c.name, c] as const))('advantages: %s', (_name, c) => {
  const where = c.groupOffsets ? { groupOffsets: Int32Array.from(c.groupOffsets) } : { numGenerations: c.numGenerations! };
  const ours = groupAdvantages(
    Float64Array.from(c.rewards, (r) => r ?? NaN),
    { ...where, ...c.config },
  ).advantages;
  const off = Math.max(...c.advantages.map((a, i) => Math.abs(a - ours[i]!)));
  if (c.differs) expect(off).toBeGreaterThan(1e-3);
  else expect(off).toBeLessThan(1e-5);
});
