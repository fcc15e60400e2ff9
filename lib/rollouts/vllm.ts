// vLLM: /v1/completions with token ids, return_token_ids (0.10.2 and newer; older ones name ids in the log-probs).
import { join, resolve } from 'node:path';
import type { CallLimits, HttpClient } from './http.js';
import { RequestFailed } from './http.js';
import { garbled, isNumbers, isObject, unable, type Answered, type Job, type Protocol } from './protocol.js';

function idsOf(choice: Record<string, unknown>, where: string): number[] {
  if (isNumbers(choice.token_ids)) return choice.token_ids;
  const { tokens } = (isObject(choice.logprobs) ? choice.logprobs : {}) as { tokens?: unknown[] };
  const named = (tokens ?? []).map((token) => /^token_id:(\d+)$/.exec(String(token))?.[1]);
  if (named.length > 0 && named.every((id) => id !== undefined)) return named.map(Number);
  throw unable(
    `${where} gives no token ids (return_token_ids), and text that is tokenised again may give others: vLLM 0.10.2 or newer is needed`,
  );
}

function finishOf(reason: unknown, where: string): 'stop' | 'length' {
  if (reason === 'stop' || reason === 'length') return reason;
  // 'abort': a reload or a restart ended it
  throw garbled(where, `with finish_reason ${JSON.stringify(reason)}`);
}

function choiceOf(choice: unknown, job: Job, where: string): Answered {
  if (!isObject(choice)) throw garbled(where, 'with a choice that is no object');
  const finishReason = finishOf(choice.finish_reason, where); // first: an aborted one has no ids
  const tokens = idsOf(choice, where);
  const given = isObject(choice.logprobs) ? choice.logprobs.token_logprobs : undefined;
  if (job.logprobs && !isNumbers(given)) throw garbled(where, 'without log-probs');
  const logps = job.logprobs ? (given as number[]) : undefined;
  if (logps && logps.length !== tokens.length) throw garbled(where, `with ${logps.length} log-probs for ${tokens.length} tokens`);
  const spans = choice.weight_versions;
  const versions = Array.isArray(spans)
    ? spans.map((span) => String(isObject(span) ? (span.version ?? span.weight_version) : span))
    : undefined;
  return { tokens, logps, finishReason, ...(versions?.length ? { versions } : {}) };
}

function body(job: Job, model: string | undefined): Record<string, unknown> {
  const { sampling: s } = job;
  return {
    ...(model === undefined ? {} : { model }),
    prompt: job.tokens, // the very ids that training conditions on
    n: job.count,
    max_tokens: s.maxCompletionLength,
    // All of them, since the server's own defaults may be the model's generation_config.json.
    temperature: s.temperature,
    top_p: s.topP,
    top_k: s.topK,
    min_p: s.minP ?? 0,
    repetition_penalty: s.repetitionPenalty,
    seed: job.seed,
    ...(job.ignoreEos ? { ignore_eos: true } : { stop_token_ids: s.stopTokenIds }),
    logprobs: 0, // of the sampled tokens; older ones name the ids there
    return_token_ids: true,
    return_tokens_as_token_ids: true,
    return_weight_versions: true, // newer ones; others do not know it and say nothing
    skip_special_tokens: false,
  };
}

function read(answer: unknown, job: Job, where: string): Answered[] {
  const choices = isObject(answer) ? answer.choices : undefined;
  if (!Array.isArray(choices)) throw garbled(where, 'without choices');
  if (choices.length !== job.count) throw garbled(where, `with ${choices.length} choices; ${job.count} were asked for`);
  const ordered = [...(choices as Record<string, unknown>[])].sort((a, b) => Number(a?.index) - Number(b?.index));
  return ordered.map((choice) => choiceOf(choice, job, where));
}

const PROBED = 8; // tokens

/**
 * topK 1 leaves one token: after truncation its log-prob is 0, before it is less (a model that is sure of eight tokens on end, beyond the end
 * of its text, there is none).
 */
async function probeMode(client: HttpClient, model: string | undefined, tokens: number[], timeout: number, signal: AbortSignal) {
  const asked = { prompt: tokens, max_tokens: PROBED, temperature: 1, top_p: 1, min_p: 0, top_k: 1, repetition_penalty: 1 };
  const answer = await client.post('/v1/completions', { model, ...asked, logprobs: 0, ignore_eos: true }, { timeout, signal });
  const [choice] = (isObject(answer) ? answer.choices : undefined) as { logprobs?: { token_logprobs?: unknown } }[];
  const given = choice?.logprobs?.token_logprobs;
  if (!isNumbers(given)) throw garbled(`${client.base}/v1/completions`, 'without log-probs');
  return given.every((lp) => lp === 0) ? ('processed' as const) : ('raw' as const);
}

const hint = (base: string, path: string) =>
  `${base} has no ${path}: start vLLM with VLLM_SERVER_DEV_MODE=1, which weights can be reloaded with, or give openAICompatible a reload function`;

/** A call that newer servers have; others answer 404. */
async function optional(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof RequestFailed && error.details.status === 404)) throw error;
  });
}

/** Older versions can only read the folder again that they were started with: it has to be the one that was written. */
async function mustServe(client: HttpClient, folder: string, limits: CallLimits): Promise<void> {
  const answer = await client.get('/v1/models', limits);
  const roots = ((isObject(answer) ? answer.data : undefined) as { root?: unknown }[] | undefined)?.map((m) => String(m.root)) ?? [];
  const same = (root: string) => (root.startsWith('/') ? resolve(root) === resolve(folder) : resolve(folder).endsWith(`/${join(root)}`));
  if (!roots.some(same))
    throw unable(
      `${client.base} serves ${roots.join(', ')} and takes no path of others (an older vLLM): start it with ${folder}, which is written at each hand-over`,
    );
}

async function reload(
  client: HttpClient,
  { folder, label }: { folder: string; label: string },
  timeout: number,
  signal: AbortSignal,
): Promise<void> {
  const limits = { timeout, signal };
  const rpc = (kwargs: object) => client.post('/collective_rpc', { method: 'reload_weights', ...kwargs }, limits);
  try {
    // Older ones take no path: they read the folder that they were started with again.
    await rpc({ kwargs: { weights_path: folder } }).catch(async (error: unknown) => {
      const { status } = error instanceof RequestFailed ? error.details : {};
      if (status === 404) throw unable(hint(client.base, '/collective_rpc'));
      if (status === undefined) throw error;
      await mustServe(client, folder, limits);
      return rpc({});
    });
    // Keys and values of the old weights must not serve prompts that come again.
    const answer = await client.post('/reset_prefix_cache', {}, limits);
    if (isObject(answer) && answer.success === false)
      throw garbled(`${client.base}/reset_prefix_cache`, 'that it could not: requests are under way');
    await optional(client.post('/update_weight_version', { new_version: label }, limits));
  } catch (error) {
    if (error instanceof RequestFailed && error.details.status === 404) throw unable(hint(client.base, 'such call'));
    throw error;
  }
}

export const vllm: Protocol = { kind: 'vllm', most: Infinity, health: '/health', path: '/v1/completions', body, read, probeMode, reload };
