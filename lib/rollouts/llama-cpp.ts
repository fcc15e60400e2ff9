// llama.cpp's llama-server: its own /completion, as its OpenAI-compatible one does not tell ids.
import { garbled, isNumbers, isObject, unable, type Answered, type Job, type LogprobsMode, type Protocol } from './protocol.js';

function body(job: Job, _model: string | undefined, mode: LogprobsMode | undefined): Record<string, unknown> {
  const { sampling: s } = job;
  return {
    prompt: job.tokens,
    n_predict: s.maxCompletionLength,
    temperature: s.temperature,
    top_k: s.topK,
    top_p: s.topP,
    min_p: s.minP ?? 0, // its own default is 0.05
    repeat_penalty: s.repetitionPenalty,
    repeat_last_n: job.tokens.length + s.maxCompletionLength, // all; its own default is 64
    // Its usual order truncates at temperature 1; the temperature first is what topP means elsewhere. Others (dry, xtc) are left out.
    samplers: ['penalties', 'temperature', 'top_k', 'top_p', 'min_p'],
    mirostat: 0,
    seed: job.seed,
    ignore_eos: job.ignoreEos,
    ...(job.logprobs ? { n_probs: 1, post_sampling_probs: mode === 'processed' } : {}),
    return_tokens: true,
    stream: false,
  };
}

const LEAST = 1e-38; // a probability that float32 has rounded to 0

function logpsOf(entries: unknown, tokens: number[]): number[] | undefined {
  if (!Array.isArray(entries)) return undefined;
  const all = entries as { id?: unknown; logprob?: unknown; prob?: unknown }[];
  // A token that ends within a character has no entry of its own: what is left cannot be told apart.
  if (all.length !== tokens.length || all.some((e, t) => e.id !== tokens[t])) return undefined;
  const logps = all.map((e) => (typeof e.prob === 'number' ? Math.log(Math.max(e.prob, LEAST)) : e.logprob));
  return isNumbers(logps) ? logps : undefined;
}

function read(answer: unknown, job: Job, where: string): Answered[] {
  if (!isObject(answer)) throw garbled(where, 'no object');
  const { tokens, stop_type: stop, completion_probabilities: entries, truncated } = answer;
  if (truncated === true)
    throw unable(`${where}: prompt and completion do not fit its context (--ctx-size is shared out among its --parallel slots)`);
  if (!isNumbers(tokens) || tokens.length === 0)
    throw unable(`${where} gives no token ids (return_tokens): llama.cpp from January 2025 or newer is needed`);
  if (stop !== 'eos' && stop !== 'limit' && stop !== 'word') throw garbled(where, `with stop_type ${JSON.stringify(stop)}`);
  const logps = job.logprobs ? logpsOf(entries, tokens) : undefined;
  return [{ tokens, ...(logps ? { logps } : {}), finishReason: stop === 'limit' ? 'length' : 'stop' }];
}

/**
 * At temperature 1 it is asked for the model's log-probs, else for the probabilities that it samples by: full ones where nothing is truncated.
 * It loads weights when it starts, and then no more.
 */
export const llamaCpp: Protocol = {
  ...{ kind: 'llama.cpp', most: 1, health: '/health', path: '/completion', body, read },
  closes: true, // an idle connection holds one of its few threads for five seconds, and other requests wait for it
  logprobsMode: ({ temperature }) => (temperature === 1 ? 'raw' : 'processed'),
};
