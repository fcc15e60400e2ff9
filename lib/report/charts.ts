// Which charts a run gets. What its steps do not have is left out by renderChart.
import type { Chart, Line } from './chart.js';
import { downsample, percent, smooth, toNumber } from './numbers.js';
import type { StepMetrics } from '../trainer/types.js';
import type { ReportStep } from './types.js';

type Pick = (step: ReportStep) => unknown;

/** Extracts lines from the steps, all at the same (possibly thinned out) positions. */
class Extract {
  readonly x: number[];
  private readonly all: number[];

  constructor(private readonly steps: readonly ReportStep[]) {
    this.all = steps.map((s) => s.step);
    this.x = downsample(this.all, this.all).x;
  }

  values(pick: Pick): { y: number[]; low?: number[]; high?: number[] } {
    const { y, low, high } = downsample(
      this.all,
      this.steps.map((s) => toNumber(pick(s))),
    );
    return { y, low, high };
  }

  /** A line, with the range of its bucket as a band where steps were merged. */
  line(name: string, colour: number, pick: Pick): Line {
    return { name, colour, ...this.values(pick) };
  }

  get span(): number {
    return Math.max(3, Math.round(this.x.length / 12));
  }
}

const PHASES = [
  ['sampling', 'generate'],
  ['rewards', 'reward'],
  ['scoring', 'score'],
  ['training', 'train'],
  ['optimizer', 'optimizer'],
] as const;

function rewardChart(data: Extract): Chart {
  const raw = data.values((s) => s.reward).y;
  const std = data.values((s) => s.rewardStd).y;
  const band = { low: raw.map((v, i) => v - std[i]!), high: raw.map((v, i) => v + std[i]!) };
  const lines: Line[] = [
    { name: 'mean reward of a step', colour: 1, y: raw, faint: raw.length > 4, ...(std.some(Number.isFinite) ? band : {}) },
  ];
  if (raw.length > 4) lines.push({ name: 'smoothed', colour: 1, y: smooth(raw, data.span), smoothOf: 0 });
  return {
    title: 'Reward',
    note: 'Higher is better. Shaded: ± the spread within a group, which is what GRPO learns from.',
    x: data.x,
    lines,
    wide: true,
  };
}

/** Where the rewards of single completions lie, over time. */
function rewardSpread(data: Extract): Chart {
  const of = (key: keyof StepMetrics['rewardQuantiles']) => data.values((s) => s.rewardQuantiles?.[key]).y;
  const lines: Line[] = [
    { name: 'median', colour: 3, y: of('median'), low: of('q25'), high: of('q75') },
    { name: 'best', colour: 1, y: of('max'), faint: true },
    { name: 'worst', colour: 2, y: of('min'), faint: true },
  ];
  return { title: 'Rewards of single completions', note: 'Shaded: the middle half of them.', x: data.x, lines };
}

function rewardParts(data: Extract, steps: readonly ReportStep[]): Chart {
  const names = [...new Set(steps.flatMap((s) => Object.keys(s.rewards ?? {})))].slice(0, 6);
  const lines =
    names.length < 2
      ? []
      : names.map((name, i) => ({ ...data.line(name, i + 1, (s) => s.rewards?.[name]?.mean), low: undefined, high: undefined }));
  return { title: 'Reward by function', note: 'Mean of each reward function, before its weight.', x: data.x, lines };
}

function lengthChart(data: Extract): Chart {
  const least = data.values((s) => s.completionLength?.min).y;
  const most = data.values((s) => s.completionLength?.max).y;
  const line = { name: 'mean length', colour: 3, y: data.values((s) => s.completionLength?.mean).y, low: least, high: most };
  return { title: 'Completion length', note: 'Tokens per completion. Shaded: shortest to longest.', x: data.x, lines: [line], zero: true };
}

function timeChart(data: Extract): Chart {
  const lines = PHASES.map(([name, key], i) => ({ name, colour: i + 1, y: data.values((s) => s.seconds?.[key]).y }));
  return {
    title: 'Time by phase',
    note: 'Seconds of a step and what they went to.',
    x: data.x,
    lines: lines.filter((l) => l.y.some((v) => v > 0)),
    stacked: true,
  };
}

/** A step's pairs, and the held-out ones where they were measured (a reward model's run). */
function pairChart(data: Extract, title: string, note: string, step: Pick, heldOut: Pick): Chart {
  const lines = [data.line('pairs of the step', 1, step), data.line('held-out pairs', 3, heldOut)];
  return { title, note, x: data.x, lines: lines.filter(({ y }) => y.some(Number.isFinite)) };
}

/** On evalDataset: only steps that evaluated have a point. */
function evaluationCharts(all: readonly ReportStep[]): Chart[] {
  const steps = all.filter((s) => Number.isFinite(s.evalReward));
  if (steps.length === 0) return [];
  const data = new Extract(steps);
  const k = toNumber(steps.at(-1)!.evalK);
  return [
    {
      title: 'Reward on held-out prompts',
      note: 'Of evalDataset, which is not trained on.',
      x: data.x,
      lines: [data.line('sampled', 1, (s) => s.evalReward), data.line('greedy', 3, (s) => s.evalRewardGreedy)],
    },
    {
      title: 'Held-out prompts passed',
      note: 'Share with a reward of at least evalPassThreshold.',
      x: data.x,
      lines: [
        data.line('greedy', 3, (s) => s.evalPassGreedy),
        data.line('pass@1', 1, (s) => s.evalPassAt1),
        data.line(`pass@${Number.isFinite(k) ? k : 'K'}`, 5, (s) => s.evalPassAtK),
      ],
      zero: true,
      format: percent,
    },
  ];
}

/** Of the servers that sampled (openAICompatible): only steps that drew a rollout have a point. */
function serverCharts(all: readonly ReportStep[]): Chart[] {
  const steps = all.filter((s) => s.servers);
  if (steps.length === 0) return [];
  const data = new Extract(steps);
  const names = [...new Set(steps.flatMap((s) => Object.keys(s.servers ?? {})))].slice(0, 6);
  return [
    {
      title: 'Servers',
      note: 'Tokens per second that each of them sampled.',
      x: data.x,
      lines: names.map((name, i) => data.line(name, i + 1, (s) => s.servers?.[name]?.tokensPerSecond)),
      zero: true,
    },
    {
      title: 'Trouble with servers',
      note: 'Requests tried again, completions by other weights than asked for, and servers taken out.',
      x: data.x,
      lines: [
        data.line('retries', 1, (s) => s.rollout?.retries),
        data.line('stale', 2, (s) => s.rollout?.stale),
        data.line('servers out', 6, (s) => s.rollout?.serversOut),
      ],
      zero: true,
    },
  ];
}

/** Of a rollout function that gives log-probs. */
const samplerChart = (data: Extract): Chart => ({
  title: 'KL from what sampled',
  note: 'To the policy, in nats per token: near 0, or a server has other weights.',
  x: data.x,
  lines: [data.line('KL', 5, (s) => s.samplerKl)],
});

/** Of a run whose samples are always fresh there is nothing to see. */
function stalenessChart(data: Extract, steps: readonly ReportStep[]): Chart[] {
  if (!steps.some((s) => toNumber(s.staleness?.max) > 0)) return [];
  const lines = [data.line('mean', 4, (s) => s.staleness?.mean), data.line('max', 2, (s) => s.staleness?.max)];
  return [
    {
      title: 'Staleness',
      note: 'Optimizer steps between the weights that sampled and those that are trained.',
      x: data.x,
      lines,
      zero: true,
    },
  ];
}

/** All charts of a run, in the order of the page. */
export function chartsOf(steps: readonly ReportStep[]): Chart[] {
  const data = new Extract(steps);
  const one = (title: string, note: string, colour: number, pick: Pick, more: Partial<Chart> = {}): Chart => ({
    title,
    note,
    x: data.x,
    lines: [data.line(title, colour, pick)],
    ...more,
  });
  const ofPairs = steps.some((s) => Number.isFinite(s.accuracy));
  const graded = steps.some((s) => Number.isFinite(s.reward));
  return [
    rewardChart(data),
    rewardSpread(data),
    rewardParts(data, steps),
    ...evaluationCharts(steps),
    pairChart(
      data,
      'Pairs ranked rightly',
      'Share of pairs whose chosen side scores higher; 0.5 is guessing.',
      (s) => s.accuracy,
      (s) => s.evalAccuracy,
    ),
    pairChart(
      data,
      'Margin',
      'Mean score of chosen minus rejected; it may grow for ever.',
      (s) => s.margin,
      (s) => s.evalMargin,
    ),
    one(
      'Loss',
      graded
        ? 'In GRPO it hovers around 0 and says little about progress; watch the reward.'
        : `Nats per ${ofPairs ? 'pair: log 2 = 0.69 is guessing' : 'trained token'}; lower is better.`,
      2,
      (s) => s.loss,
    ),
    one('KL to the reference', 'How far the policy has moved, in nats per token.', 5, (s) => s.kl, { zero: true }),
    one('Entropy', 'How undecided the policy is, in nats per token; near 0 it stops exploring.', 4, (s) => s.entropy, { zero: true }),
    one('Value loss', "Of PPO's critic: half the squared error of what it expects.", 2, (s) => s.valueLoss, { zero: true }),
    one('Explained variance', 'Of the returns by the critic: 1 is perfect, 0 no better than their mean.', 3, (s) => s.explainedVariance),
    lengthChart(data),
    {
      title: 'Clipped tokens',
      note: 'Share of tokens whose ratio the clip stopped, below and above.',
      x: data.x,
      lines: [data.line('below', 2, (s) => s.clipRatio?.low), data.line('above', 1, (s) => s.clipRatio?.high)],
      zero: true,
      format: percent,
    },
    one('Groups without signal', 'Share of groups whose rewards are all equal: they teach nothing.', 6, (s) => s.fracRewardZeroStd, {
      zero: true,
      format: percent,
    }),
    one('Truncated completions', 'Share of completions cut at the length limit.', 2, (s) => s.truncated, { zero: true, format: percent }),
    one('Learning rate', 'Of this step.', 3, (s) => s.learningRate, { zero: true }),
    one('Gradient norm', 'Before clipping.', 1, (s) => s.gradNorm, { zero: true }),
    timeChart(data),
    samplerChart(data),
    ...stalenessChart(data, steps),
    ...serverCharts(steps),
    one('Speed', 'Prompt and completion tokens per second.', 3, (s) => s.tokensPerSecond, { zero: true }),
  ];
}
