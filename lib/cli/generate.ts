import { FusedGrpoError } from '../errors.js';
import type { Command } from './command.js';
import type { CliContext, Completion } from './context.js';
import { EXIT } from './errors.js';
import { checkModel, modelFlag } from './models.js';
import { requireFlags, type FlagTable, type FlagValues } from './options.js';
import { Progress } from './progress.js';
import { interruptible } from './run-training.js';

const ownFlags: FlagTable = {
  model: modelFlag,
  prompt: { type: 'string', required: true, multiple: true, description: 'The prompt; - reads it from standard input' },
  chat: { type: 'boolean', description: "Send the prompt as a user message through the model's chat template" },
  numGenerations: { type: 'integer', min: 1, default: 1, description: 'Completions per prompt' },
  maxNewTokens: { type: 'integer', min: 1, description: 'Tokens per completion at most; default 256, or what the context leaves' },
  temperature: { type: 'number', min: 0, description: 'Sampling temperature' },
  topK: { type: 'integer', min: 0, description: 'Sample among the k likeliest tokens; 0: all' },
  topP: { type: 'number', min: 0, max: 1, description: 'Nucleus sampling' },
  minP: { type: 'number', min: 0, max: 1, description: 'Sample among tokens at least this likely relative to the likeliest' },
  repetitionPenalty: { type: 'number', min: 0, exclusiveMin: true, description: 'Penalty on tokens already there' },
  seed: { type: 'integer', min: 0, description: 'Same seed, same text' },
  stop: { type: 'string', multiple: true, description: 'End a completion at this text' },
  ignoreEos: { type: 'boolean', description: 'Do not end at the end-of-sequence token' },
  device: { type: 'enum', values: ['auto', 'cpu', 'cuda'], default: 'auto', description: 'Where the model runs' },
  dtype: { type: 'enum', values: ['auto', 'float32', 'bfloat16'], default: 'auto', description: 'Type of the weights' },
  json: { type: 'boolean', description: 'Print the completions, with tokens and log-probs, as JSON' },
};

const SAMPLING = [
  'numGenerations',
  'maxNewTokens',
  'temperature',
  'topK',
  'topP',
  'minP',
  'repetitionPenalty',
  'seed',
  'stop',
  'ignoreEos',
];

/** A model may emit anything: control characters must not reach a terminal. */
// eslint-disable-next-line no-control-regex -- they are what is removed
const printable = (text: string): string => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\ufffd');

function asText(completions: Completion[], prompts: string[], many: boolean, tty: boolean): string {
  const safe = (text: string) => (tty ? printable(text) : text);
  if (!many) return completions.map((c) => safe(c.text) + '\n').join('');
  return completions
    .map(
      (c, i) =>
        `── ${i + 1}: ${safe(prompts[c.promptIndex]!.split('\n')[0]!.slice(0, 60))} (${c.finishReason}, ${c.tokens.length} tokens)\n${safe(c.text)}\n`,
    )
    .join('\n');
}

function asJson(completions: Completion[], prompts: string[]): string {
  const rows = completions.map((c) => ({
    promptIndex: c.promptIndex,
    prompt: prompts[c.promptIndex],
    text: c.text,
    finishReason: c.finishReason,
    tokens: [...c.tokens],
    logps: [...c.logps],
  }));
  return JSON.stringify({ completions: rows }) + '\n';
}

async function readPrompts(given: string[], ctx: CliContext): Promise<string[]> {
  if (given.filter((p) => p === '-').length > 1) throw new FusedGrpoError('ERR_INVALID_ARG', '--prompt - can be given only once');
  return Promise.all(given.map(async (p) => (p === '-' ? (await ctx.readStdin()).replace(/\n$/, '') : p)));
}

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  requireFlags('generate', ownFlags, values);
  const model = (await checkModel('model', values.model, ctx)).name;
  const prompts = await readPrompts(values.prompt as string[], ctx);
  const sampling: FlagValues = {};
  for (const name of SAMPLING) {
    const value = values[name] ?? ownFlags[name]!.default;
    if (value !== undefined) sampling[name] = value;
  }
  const completions = await interruptible(ctx, new Progress(ctx, { label: 'generate', total: () => 0 }), async (signal) => {
    const policy = await ctx.api.policy().Policy.load(model, { device: values.device ?? 'auto', dtype: values.dtype ?? 'auto', signal });
    try {
      const asked = values.chat ? prompts.map((content) => [{ role: 'user', content }]) : prompts;
      return (await policy.generate(asked, { ...sampling, signal })).completions;
    } finally {
      policy.dispose();
    }
  });
  const many = completions.length > 1;
  ctx.stdout.write(values.json ? asJson(completions, prompts) : asText(completions, prompts, many, Boolean(ctx.stdout.isTTY)));
  return EXIT.ok;
}

export const generateCommand: Command = {
  name: 'generate',
  summary: 'sample completions from a model',
  usage: '--model DIR --prompt "…" [options]',
  examples: [
    'npx fused-grpo generate --model runs/first/model --prompt "Once upon a time" --max-new-tokens 100 --temperature 0.8 --seed 1',
  ],
  flags: () => ownFlags,
  run,
};
