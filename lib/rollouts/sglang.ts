// SGLang: its own /generate, whose log-probs name the ids. Its OpenAI-compatible completions give none.
import type { HttpClient } from './http.js';
import { RequestFailed } from './http.js';
import { garbled, isObject, unable, type Answered, type Job, type Protocol } from './protocol.js';

function finishOf(reason: unknown, where: string): 'stop' | 'length' {
  const type = isObject(reason) ? reason.type : undefined;
  if (type === 'stop' || type === 'length') return type;
  throw garbled(where, `with finish_reason ${JSON.stringify(reason)}`); // 'abort': a reload or a restart ended it
}

function versionsOf(meta: Record<string, unknown>): string[] {
  const spans = meta.weight_versions;
  if (Array.isArray(spans) && spans.length > 0) return spans.map((span) => String(isObject(span) ? span.version : span));
  return typeof meta.weight_version === 'string' ? [meta.weight_version] : [];
}

function body(job: Job): Record<string, unknown> {
  const { sampling: s } = job;
  return {
    input_ids: job.tokens,
    sampling_params: {
      max_new_tokens: s.maxCompletionLength,
      temperature: s.temperature,
      top_p: s.topP,
      top_k: s.topK > 0 ? s.topK : -1,
      min_p: s.minP ?? 0,
      repetition_penalty: s.repetitionPenalty,
      sampling_seed: job.seed, // heeded with --enable-deterministic-inference
      ...(job.ignoreEos ? { ignore_eos: true } : { stop_token_ids: s.stopTokenIds }),
      skip_special_tokens: false,
      no_stop_trim: true,
    },
    return_logprob: true, // the ids come with them
    logprob_start_len: -1,
    stream: false,
  };
}

function read(answer: unknown, _job: Job, where: string): Answered[] {
  const one: unknown = Array.isArray(answer) && answer.length === 1 ? answer[0] : answer;
  const meta = isObject(one) ? one.meta_info : undefined;
  if (!isObject(meta)) throw garbled(where, 'without meta_info');
  const finishReason = finishOf(meta.finish_reason, where);
  const given = meta.output_token_logprobs;
  if (!Array.isArray(given)) throw unable(`${where} gives no output_token_logprobs, which the token ids stand in: is it SGLang?`);
  const pairs = given as [unknown, unknown][];
  if (!pairs.every((pair) => Array.isArray(pair) && typeof pair[0] === 'number' && Number.isInteger(pair[1])))
    throw garbled(where, 'with output_token_logprobs that are no pairs of log-prob and id');
  if (typeof meta.completion_tokens === 'number' && meta.completion_tokens !== pairs.length)
    throw garbled(where, `with ${pairs.length} log-probs for ${meta.completion_tokens} tokens`);
  const versions = versionsOf(meta);
  return [
    {
      tokens: pairs.map(([, id]) => id as number),
      logps: pairs.map(([lp]) => lp as number),
      finishReason,
      ...(versions.length ? { versions } : {}),
    },
  ];
}

async function reload(
  client: HttpClient,
  { folder, label }: { folder: string; label: string },
  timeout: number,
  signal: AbortSignal,
): Promise<void> {
  const path = '/update_weights_from_disk';
  try {
    const answer = await client.post(path, { model_path: folder, weight_version: label, flush_cache: true }, { timeout, signal });
    if (isObject(answer) && answer.success === false) throw garbled(`${client.base}${path}`, JSON.stringify(answer.message));
  } catch (error) {
    // 400 is how it says that loading did not succeed: the weights that it has are then the old ones
    if (error instanceof RequestFailed && error.details.status === 400) throw unable(error.message);
    throw error;
  }
}

/** Its log-probs are at `temperature` before truncation, unless it runs with SGLANG_RETURN_ORIGINAL_LOGPROB=1 ('raw'). */
export const sglang: Protocol = {
  ...{ kind: 'sglang', logprobsMode: () => 'tempered', most: 1, health: '/health', path: '/generate', body, read, reload },
};
