// train --dry-run: the plan of a run in words.
import type { RunPlan } from '../plan/plan.js';
import { short } from './progress.js';

const count = (n: number): string => Math.round(n).toLocaleString('en-US');
const size = (bytes: number): string =>
  bytes >= 0.995e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6))} MB`;
const millions = (n: number): string =>
  n >= 1e9 ? `${(n / 1e9).toFixed(2)} B` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : `${(n / 1e3).toFixed(0)} k`;

function memoryLines({ memory, fits, savings, warnings }: RunPlan): string[] {
  const width = Math.max(...memory.parts.map((p) => p.name.length));
  const lines = memory.parts.map((p) => `            ${p.name.padEnd(width)}  ${size(p.bytes).padStart(7)}  ${p.note}`);
  const verdict = fits ? 'it fits' : 'IT DOES NOT FIT';
  const head = `  memory    about ${size(memory.totalBytes)} at its peak, of this machine's ${size(memory.machineBytes)}: ${verdict}`;
  const most = [...memory.parts].sort((a, b) => b.bytes - a.bytes).slice(0, 2);
  const advice = fits
    ? []
    : [
        `  change    most of it is for ${most.map((p) => `${p.name} (${size(p.bytes)})`).join(' and ')}`,
        ...(savings.length > 0 ? savings : [{ change: 'a smaller model', bytes: NaN }]).map(
          ({ change, bytes }) =>
            `            ${change}${Number.isNaN(bytes) ? '' : `: ${size(bytes)}${bytes <= memory.machineBytes ? ', fits' : ''}`}`,
        ),
      ];
  return [head, ...lines, ...advice, ...warnings.map((w) => `  note      ${w}`)];
}

/** The plan as the lines of a terminal. */
export function planText(plan: RunPlan): string {
  const { model, data, rewards } = plan;
  const { min, mean, max } = data.promptTokens;
  const prompts = `${plan.promptsPerRollout} prompt${plan.promptsPerRollout === 1 ? '' : 's'} sampled at a time`;
  const said = Object.entries(rewards).map(([name, value]) => `${name} = ${value === null ? 'nothing to say' : short(value)}`);
  return [
    'Everything is in order; nothing was trained or written.',
    `  data      ${count(data.prompts)} prompts of ${min} to ${max} tokens, ${count(mean)} on average; columns: ${data.columns.join(', ')}`,
    `  model     ${model.type}, ${millions(model.parameters)} parameters, ${model.dtype}, context ${count(model.contextLength)}`,
    `  rewards   on a made-up completion: ${said.join(', ')}`,
    `  run       ${count(plan.steps)} steps of ${count(plan.completionsPerStep)} completions, ${prompts}; ${short(plan.epochs)} passes over the data`,
    `  tokens    at most ${count(plan.tokensPerStep)} a step, ${count(plan.microBatchTokens)} at a time`,
    ...memoryLines(plan),
    '',
  ].join('\n');
}
