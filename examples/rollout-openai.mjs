// A rollout module for `npx fused-grpo train --rollout examples/rollout-openai.mjs`: an inference server samples, fused-grpo trains.
// docs/rollouts.md says how to start vLLM or llama.cpp's server for it. Settings, as environment variables:
//   ROLLOUT_SERVER   http://127.0.0.1:8000
//   ROLLOUT_API      openai (vLLM's /v1/completions, and what speaks like it) or llamacpp (/completion of llama.cpp's server)
//   ROLLOUT_MODEL    the name under which an OpenAI-compatible server serves the model
//   ROLLOUT_KEY      its key, if it wants one
import http from 'node:http';
import https from 'node:https';

const { ROLLOUT_SERVER = 'http://127.0.0.1:8000', ROLLOUT_API = 'openai', ROLLOUT_MODEL = 'policy', ROLLOUT_KEY } = process.env;

/** Not fetch(): that gives up when a server has not begun to answer for five minutes, which long completions may take. */
function post(path, body, signal) {
  // llama.cpp's server: an idle connection holds one of its few threads for five seconds.
  const close = ROLLOUT_API === 'llamacpp' ? { connection: 'close' } : {};
  const headers = { ...close, 'content-type': 'application/json', ...(ROLLOUT_KEY ? { authorization: `Bearer ${ROLLOUT_KEY}` } : {}) };
  const { request } = ROLLOUT_SERVER.startsWith('https:') ? https : http;
  return new Promise((resolve, reject) => {
    const sent = request(ROLLOUT_SERVER + path, { method: 'POST', headers, signal }, async (response) => {
      try {
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        const { statusCode } = response;
        if (statusCode >= 300) throw new Error(`${ROLLOUT_SERVER}${path} answered ${statusCode}: ${text.slice(0, 300)}`);
        resolve(text === '' ? undefined : JSON.parse(text));
      } catch (error) {
        reject(error);
      }
    });
    sent.on('error', reject).end(JSON.stringify(body));
  });
}

/** Ids as the server sampled them: text is not tokenised again, which may give other ids. */
function idsOf({ token_ids, logprobs }) {
  if (Array.isArray(token_ids)) return token_ids; // vLLM: return_token_ids
  const named = logprobs?.tokens?.map((token) => /^token_id:(\d+)$/.exec(token)?.[1]); // return_tokens_as_token_ids
  if (named?.length > 0 && named.every((id) => id !== undefined)) return named.map(Number);
  throw new Error('The server returns no token ids: it needs return_token_ids (vLLM 0.10.2 or newer)');
}

const completionOf = (choice) => ({
  tokens: idsOf(choice),
  samplerLogps: choice.logprobs?.token_logprobs,
  finishReason: choice.finish_reason,
});

/** One request per prompt, with its own seed: the server batches them. */
async function openai({ prompts, numGenerations, sampling, signal }) {
  return Promise.all(
    prompts.map(async ({ tokens, seed }) => {
      const body = {
        model: ROLLOUT_MODEL,
        prompt: [...tokens], // the very ids that training conditions on
        n: numGenerations,
        max_tokens: sampling.maxCompletionLength,
        temperature: sampling.temperature,
        top_p: sampling.topP,
        seed,
        logprobs: 1,
        // vLLM's own:
        ...(sampling.topK > 0 ? { top_k: sampling.topK } : {}),
        ...(sampling.minP === undefined ? {} : { min_p: sampling.minP }),
        ...(sampling.repetitionPenalty === 1 ? {} : { repetition_penalty: sampling.repetitionPenalty }),
        stop_token_ids: sampling.stopTokenIds,
        return_token_ids: true,
      };
      const { choices } = await post('/v1/completions', body, signal);
      return choices.sort((a, b) => a.index - b.index).map(completionOf);
    }),
  );
}

/** llama.cpp has no `n` here: one request per completion. Its log-probs are those at temperature 1, so with another one they are left out. */
async function llamacpp({ prompts, numGenerations, sampling, signal }) {
  const complete = async (tokens, seed) => {
    const body = {
      prompt: [...tokens],
      n_predict: sampling.maxCompletionLength,
      temperature: sampling.temperature,
      top_k: sampling.topK,
      top_p: sampling.topP,
      min_p: sampling.minP ?? 0, // its own default is 0.05
      repeat_penalty: sampling.repetitionPenalty,
      seed,
      n_probs: 1,
      return_tokens: true,
    };
    const { tokens: ids, completion_probabilities: probs, stop_type } = await post('/completion', body, signal);
    const known = sampling.temperature === 1 && probs?.length === ids.length;
    const samplerLogps = known ? { samplerLogps: probs.map(({ logprob }) => logprob) } : {};
    return { tokens: ids, ...samplerLogps, finishReason: stop_type === 'limit' ? 'length' : 'stop' };
  };
  const group = ({ tokens, seed }) => Promise.all(Array.from({ length: numGenerations }, (_, g) => complete(tokens, (seed + g) % 2 ** 31)));
  return Promise.all(prompts.map(group));
}

const rollout = { openai, llamacpp }[ROLLOUT_API];
if (!rollout) throw new Error(`ROLLOUT_API is '${ROLLOUT_API}'; 'openai' or 'llamacpp' is needed`);
export default rollout;

/** vLLM, serving the folder that is written (start it with VLLM_SERVER_DEV_MODE=1), reads it again. llama.cpp's server cannot. */
export const syncWeights =
  ROLLOUT_API === 'openai'
    ? {
        hook: async ({ signal }) => {
          await post('/collective_rpc', { method: 'reload_weights' }, signal);
          await post('/reset_prefix_cache', {}, signal);
        },
      }
    : undefined;
