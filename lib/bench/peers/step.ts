// TRL's trainer making the same steps as ours, in turn with them.
import { median } from 'simple-statistics';
import { summary, type Row } from '../measure.js';
import type { StepShape } from '../step.js';
import type { OpenPeers, Peer, Peers } from './peers.js';

export interface PeerStep {
  name: string;
  stepSeconds: { median: number; min: number };
  /** Seconds of generate, loss, backward and optimizer (with clipping), medians. */
  phases: Record<string, number>;
  /** Its step over ours, round by round, median. */
  timesOurs: number;
  /** Its fastest step over our fastest: what is left where something else used the machine. */
  fastestTimesOurs: number;
  peakRssBytes: number | undefined;
  generatedTokens: number | undefined;
}

/** The `peers` of a step's JSON. */
export interface PeersStep {
  versions: Readonly<Record<string, string>>;
  steps: PeerStep[];
  /** Who could not run, and why; what makes the figures doubtful. */
  notes?: string[];
}

export function openStepPeers(peers: Peers, shape: StepShape, prompts: readonly Int32Array[], dtype: string): Promise<OpenPeers> {
  const { model, numGenerations, maxCompletionLength, beta } = shape;
  return peers.open(['step'], () => ({
    ...{ model, numGenerations, maxCompletionLength, beta, dtype },
    prompts: prompts.map((p) => Array.from(p)),
  }));
}

/** One step of every peer. The round that is thrown away, `keep` = false, warms them up. */
export async function runPeers(open: OpenPeers | undefined, tokens: number, keep: boolean): Promise<void> {
  for (const peer of open?.alive ?? []) {
    const run = await peer.run();
    if (run && run.tokens !== tokens) peer.failure = `it generated ${run.tokens} tokens in a step where we generate ${tokens}`;
    if (!keep) peer.restart();
  }
}

const timesOurs = (peer: Peer, ours: readonly number[]): number => median(peer.runs.map((run, i) => run.seconds / ours[i]!));

function phaseMedians(peer: Peer): Record<string, number> {
  const names = Object.keys(peer.runs[0]?.phases ?? {});
  return Object.fromEntries(names.map((name) => [name, median(peer.runs.map((run) => run.phases![name]!))]));
}

/** `ours`: the seconds of our steps, in the same rounds. */
export function peerSteps(open: OpenPeers, ours: readonly number[]): PeerStep[] {
  return open.alive.map((peer) => {
    const { median: middle, min } = summary(peer.runs.map((run) => run.seconds));
    const last = peer.runs.at(-1)!;
    return {
      ...{ name: peer.name, stepSeconds: { median: middle, min }, phases: phaseMedians(peer), timesOurs: timesOurs(peer, ours) },
      fastestTimesOurs: min / Math.min(...ours),
      ...{ peakRssBytes: last.peakRssBytes, generatedTokens: last.tokens },
    };
  });
}

/** The whole steps and their parts, against our whole step. */
export function peerStepRows(open: OpenPeers | undefined, ours: readonly number[], tokens: number): Row[] {
  return (open?.alive ?? []).flatMap((peer) => {
    const row = (name: string, times: number[]): Row => ({
      name,
      seconds: summary(times),
      perBaseline: median(times.map((t, i) => t / ours[i]!)),
    });
    const times = peer.runs.map((run) => run.seconds);
    const whole = { ...row(`${peer.name}: whole step`, times), tokensPerSecond: tokens / median(times) };
    const parts = Object.keys(peer.runs[0]?.phases ?? {});
    return [
      { ...whole, peakRssBytes: peer.runs.at(-1)?.peakRssBytes },
      ...parts.map((part) =>
        row(
          `${peer.name}: ${part}`,
          peer.runs.map((run) => run.phases![part]!),
        ),
      ),
    ];
  });
}
