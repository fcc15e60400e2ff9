// Dynamic sampling (DAPO, arXiv:2503.14476 section 3.2): groups whose rewards are all equal teach nothing; others are sampled instead.
import type { Row } from './dataset.js';
import { sampleGroups, type Place, type RolloutContext, type SampledGroups } from './rollout.js';
import type { ScoredRewards } from './rewards.js';

/** Group `g` of the sampled ones. */
type Pick = readonly [groups: SampledGroups, g: number];

function teaches({ scored }: SampledGroups, g: number, size: number): boolean {
  const known = scored.total.subarray(g * size, (g + 1) * size).filter((r) => !Number.isNaN(r));
  return known.some((r) => r !== known[0]);
}

function mergeScored(picks: Pick[], size: number): ScoredRewards {
  const doubles = (of: (s: ScoredRewards) => Float64Array) =>
    Float64Array.from(picks.flatMap(([from, g]) => [...of(from.scored).subarray(g * size, (g + 1) * size)]));
  const first = picks[0]![0].scored;
  return {
    failed: [...new Set(picks.flatMap(([from]) => from.scored.failed))],
    total: doubles((s) => s.total),
    outcome: doubles((s) => s.outcome),
    byFunction: first.byFunction.map((_, k) => doubles((s) => s.byFunction[k]!)),
    steps: first.steps.map((_, k) => {
      if (picks.every(([from]) => from.scored.steps[k] === undefined)) return undefined;
      return picks.flatMap(([from, g]) => Array.from({ length: size }, (_, i) => from.scored.steps[k]?.[g * size + i]));
    }),
  };
}

function merge(picks: Pick[], size: number, seconds: SampledGroups['seconds']): SampledGroups {
  return {
    rows: picks.map(([from, g]) => from.rows[g]!),
    promptTokens: picks.map(([from, g]) => from.promptTokens[g]!),
    completions: picks.flatMap(([from, g]) => from.completions.slice(g * size, (g + 1) * size)),
    scored: mergeScored(picks, size),
    seconds,
  };
}

/**
 * Samples `want` groups that teach something: a round for `want` prompts, then at most config.maxResamples further rounds for what is missing,
 * as many prompts as the share of useful groups so far suggests. What is still missing is filled with groups that teach nothing, so that every
 * step has the same size.
 * @param take hands out the next rows of the data set
 */
export async function sampleInformative(
  context: RolloutContext,
  want: number,
  take: (n: number) => Promise<Row[]>,
  place: Place,
): Promise<{ groups: SampledGroups; groupsSampled: number }> {
  const { numGenerations: size, maxResamples } = context.config;
  const [useful, useless]: [Pick[], Pick[]] = [[], []];
  const seconds = { generate: 0, reward: 0 };
  let sampled = 0;
  for (let round = 0; round <= maxResamples && useful.length < want; ++round) {
    const missing = want - useful.length;
    const share = sampled === 0 ? 1 : Math.max(1 / 4, useful.length / sampled);
    const rows = await take(Math.min(want, Math.ceil(missing / share)));
    const groups = await sampleGroups(context, rows, place, sampled);
    sampled += rows.length;
    seconds.generate += groups.seconds.generate;
    seconds.reward += groups.seconds.reward;
    rows.forEach((_, g) => (teaches(groups, g, size) ? useful : useless).push([groups, g]));
  }
  return { groups: merge([...useful, ...useless].slice(0, want), size, seconds), groupsSampled: sampled };
}
