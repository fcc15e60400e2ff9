// A small inference server for tests: a real model behind the requests of vLLM's /v1/completions, llama.cpp's /completion and (POST /exact)
// one that takes every coordinate of our random numbers. Run as: node completion-server.mjs DIST MODEL_FOLDER; prints its port.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';

const [, , dist, folder] = process.argv;
const { Policy } = createRequire(import.meta.url)(`${dist}/index.js`);
let policy = await Policy.load(folder);
let loads = 0;

async function reload(from) {
  const old = policy;
  policy = await Policy.load(from);
  old.dispose();
  ++loads;
}

const generate = (prompt, options) => policy.generate([Int32Array.from(prompt)], options);

const handlers = {
  async '/v1/completions'(b) {
    const options = { temperature: b.temperature, topP: b.top_p, topK: b.top_k, minP: b.min_p, repetitionPenalty: b.repetition_penalty };
    const { completions } = await generate(b.prompt, { ...options, numGenerations: b.n, maxNewTokens: b.max_tokens, seed: b.seed });
    const choices = completions.map((c, index) => ({
      index,
      text: c.text,
      logprobs: { tokens: [...c.tokens].map((id) => `token_id:${id}`), token_logprobs: [...c.logps] },
      finish_reason: c.finishReason,
      ...(b.return_token_ids && b.model !== 'old' ? { token_ids: [...c.tokens], prompt_token_ids: b.prompt } : {}),
    }));
    return { choices: choices.reverse() };
  },
  async '/completion'(b) {
    const options = { temperature: b.temperature, topP: b.top_p, topK: b.top_k, minP: b.min_p, repetitionPenalty: b.repeat_penalty };
    const { completions } = await generate(b.prompt, { ...options, maxNewTokens: b.n_predict, seed: b.seed });
    const [{ text, tokens, logps, finishReason }] = completions;
    return {
      content: text,
      tokens: [...tokens],
      completion_probabilities: [...tokens].map((id, t) => ({ id, logprob: logps[t] })),
      stop_type: finishReason === 'length' ? 'limit' : 'eos',
    };
  },
  async '/exact'(b) {
    const { completions } = await policy.generate(
      b.prompts.map((p) => Int32Array.from(p)),
      b.options,
    );
    return completions.map(({ tokens, logps, finishReason }) => ({ tokens: [...tokens], samplerLogps: [...logps], finishReason }));
  },
  '/collective_rpc': (b) => (b.method === 'reload_weights' ? reload(folder) : Promise.reject(new Error(`no method ${b.method}`))),
  '/reset_prefix_cache': async () => undefined,
  '/load': (b) => reload(b.folder),
  '/loads': async () => loads,
};

let last = Promise.resolve();
const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const answer = async () => {
      try {
        const handler = handlers[request.url];
        if (!handler) return response.writeHead(404).end('no such path');
        const result = await handler(JSON.parse(Buffer.concat(chunks).toString() || '{}'));
        response.end(result === undefined ? '' : JSON.stringify(result));
      } catch (error) {
        response.writeHead(500).end(String(error));
      }
    };
    last = last.then(answer); // one model, and reloads in between
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit(0)); // with the test that started it
