// The real servers: llama.cpp's llama-server (FUSED_GRPO_LLAMA_SERVER: its program) and vLLM (FUSED_GRPO_VLLM: its command). `npm run
// test:servers` installs both into a private folder and runs this.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import { openAICompatible } from '../../lib/rollouts/openai-compatible.js';
import type { OpenAICompatibleOptions } from '../../lib/rollouts/options.js';
import type { RolloutCompletion, RolloutRequest } from '../../lib/trainer/rollout-function.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import { writeMadeUpModel } from '../support/made_up_model.js';
import { collect } from '../trainer/support.js';
import { writeGguf } from './gguf.js';

const folder = mkdtempSync(join(tmpdir(), 'real-servers-'));
const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) process.kill(-child.pid!, 'SIGKILL'); // vLLM has children of its own
  rmSync(folder, { recursive: true });
});

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

async function alive(url: string, seconds: number): Promise<void> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const up = await fetch(`${url}/health`).then(
      (r) => r.ok,
      () => false,
    );
    if (up) return;
    if (Date.now() > end) throw new Error(`${url} has not started; see ${folder}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

interface Running {
  url: string;
  stop(): Promise<void>;
  /** Of a stopped one, at the same address. */
  again(): Promise<void>;
}

async function running(command: string, args: (port: number) => string[], env: Record<string, string>, seconds: number): Promise<Running> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child: ChildProcess;
  const begin = async () => {
    const log = openSync(join(folder, `${port}.log`), 'a');
    child = spawn(command, args(port), { stdio: ['ignore', log, log], env: { ...process.env, ...env, NODE_OPTIONS: '' }, detached: true });
    children.add(child);
    await alive(url, seconds);
  };
  const stop = () =>
    new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      process.kill(-child.pid!, 'SIGKILL');
      children.delete(child);
    });
  await begin();
  return { url, stop, again: begin };
}

const SAMPLING = { temperature: 1, topP: 1, topK: 0, repetitionPenalty: 1, maxCompletionLength: 6, seed: 1, step: 0, promptOffset: 0 };

/** What every server has to give, held to the model itself. */
function serverTests(server: () => Running, model: () => string, full: object[], options: Partial<OpenAICompatibleOptions> = {}): void {
  let policy: Policy;
  beforeAll(async () => void (policy = await Policy.load(model())));
  afterAll(() => policy?.dispose());

  const ask = (sampling: object = {}, more: Partial<OpenAICompatibleOptions> = {}, numGenerations = 8) => {
    const rows = ['12+7=', '3+4=', '55+5='];
    const prompts = rows.map((text, i) => ({ kind: 'text' as const, text, row: { prompt: text }, tokens: policy.encode(text), seed: 1000 * i + 5 }));
    const request: RolloutRequest = {
      ...{ purpose: 'train', prompts, numGenerations, policyVersion: 0, signal: new AbortController().signal },
      ...{ sampling: { ...SAMPLING, stopTokenIds: [...policy.eosTokenIds], ...sampling }, trainerState: { step: 0, totalSteps: 1, epoch: 0 } },
    };
    const rollout = openAICompatible({ urls: server().url, reload: 'none', retryDelay: 0.1, ...options, ...more });
    return { prompts, completions: rollout(request) as Promise<RolloutCompletion[][]> };
  };

  test.each(full)('ids, and the log-probs that the policy itself gives them, with %j', async (sampling) => {
    const asked = ask({ ...sampling, maxCompletionLength: 2 });
    const groups = await asked.completions;
    const all = groups.flat();
    expect(all).toHaveLength(24);
    for (const c of all) {
      const ended = policy.eosTokenIds.includes(Array.from(c.tokens).at(-1)!);
      expect([c.finishReason, c.tokens.length]).toEqual(ended ? ['stop', expect.any(Number)] : ['length', 2]);
    }
    expect(new Set(all.map((c) => c.finishReason)).size).toBeGreaterThan(1);
    expect(new Set(all.map((c) => Array.from(c.tokens).join())).size).toBeGreaterThan(3);
    const prompts = asked.prompts.flatMap((p) => Array.from({ length: 8 }, () => p.tokens));
    const { temperature } = { ...SAMPLING, ...sampling };
    const { logps } = await policy.score(prompts, all.map((c) => Int32Array.from(c.tokens)), { temperature });
    const worst = Math.max(...all.flatMap((c, i) => Array.from(c.samplerLogps!, (lp, t) => Math.abs(lp! - logps[i]![t]!))));
    expect(worst).toBeLessThan(1e-2);
  });

  test('the same seeds, the same completions; split or not', async () => {
    const plain = (groups: RolloutCompletion[][]) => groups.map((g) => g.map((c) => Array.from(c.tokens)));
    const first = plain(await ask().completions);
    expect(plain(await ask({}, { completionsPerRequest: 3 }).completions)).toEqual(first);
  });

  test('greedy is the likeliest token; ignoreEos goes on; further stop tokens end', async () => {
    const greedy = ask({ temperature: 0, maxCompletionLength: 3 }, { samplerLogps: false }, 1);
    const { completions } = await policy.generate(greedy.prompts.map((p) => p.tokens), { temperature: 0, maxNewTokens: 3 });
    expect((await greedy.completions).map(([c]) => Array.from(c!.tokens))).toEqual(completions.map((c) => [...c.tokens]));
    expect((await ask({}, { ignoreEos: true }).completions).flat().map((c) => [c.tokens.length, c.finishReason])).toEqual(Array.from({ length: 24 }, () => [6, 'length']));
    const stopped = (await ask({ stopTokenIds: [...policy.eosTokenIds, 3, 4, 5] }).completions).flat();
    for (const c of stopped) expect(Array.from(c.tokens).slice(0, -1).some((id) => [3, 4, 5].includes(id))).toBe(false);
    expect(stopped.filter((c) => [3, 4, 5].includes(Array.from(c.tokens).at(-1)!)).map((c) => c.finishReason)).toContain('stop');
  });
} // prettier-ignore

/** The share of a completion's tokens that are the digit 4 (id 5): easily learnt. */
const fours = ({ completionTokens }: { completionTokens: Int32Array[] }) =>
  completionTokens.map((t) => t.filter((id) => id === 5).length / t.length);
const data = Array.from({ length: 64 }, (_, i) => ({ prompt: `${i}+${(7 * i) % 50}=` }));
const training = { numGenerations: 8, perDeviceTrainBatchSize: 32, maxCompletionLength: 6, learningRate: 3e-3, maxSteps: 12, saveSteps: 0 };

const llamaServer = process.env.FUSED_GRPO_LLAMA_SERVER;
(llamaServer ? describe : describe.skip)("llama.cpp's llama-server", () => {
  let server: Running;
  const weights = join(folder, 'model.gguf');
  beforeAll(async () => {
    writeGguf(demoModel(), weights);
    const args = [
      '--model',
      weights,
      '--ctx-size',
      '512',
      '--parallel',
      '8',
      '--threads',
      '1',
      '--no-warmup',
      '--cache-ram',
      '0',
      '--cache-type-k',
      'f32',
      '--cache-type-v',
      'f32',
      '--flash-attn',
      'off',
    ];
    server = await running(llamaServer!, (port) => [...args, '--host', '127.0.0.1', '--port', String(port)], {}, 60);
  }, 90000);

  serverTests(() => server, demoModel, [{}, { topP: 0.9, topK: 8, minP: 0.02 }, { temperature: 0.7 }, { temperature: 1.4 }]);

  test('trains; each hand-over starts it again with the new weights', async () => {
    const reload = async ({ folder: from }: { folder: string }) => {
      writeGguf(from, weights);
      await server.stop();
      await server.again();
    };
    const outputDir = join(folder, 'llama-run');
    const rollout = openAICompatible({ urls: server.url, reload, every: 2 });
    const config = { ...training, outputDir, maxStaleness: 1 };
    const steps = await collect(new GRPOTrainer({ model: demoModel(), rewardFuncs: fours, trainDataset: data, config, rollout }));
    expect(steps.at(-1)!.metrics.reward).toBeGreaterThan(steps[0]!.metrics.reward + 0.2);
    expect(steps.map((s) => s.metrics.staleness.max)).toEqual(steps.map((_, i) => i % 2));
    const [name] = Object.keys(steps[0]!.metrics.servers!);
    expect(steps[0]!.metrics.servers![name!]).toMatchObject({ completions: 32, failures: 0, outs: 0 });
    expect(readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8')).toContain('"tokensPerSecond"');
  }, 180000);
});

/** The end token that the tokenizer has, and a head of its own: vLLM 0.32 on a CPU leaves a tied one as it was when weights are reloaded. */
function adapt(model: string): void {
  const file = join(model, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, bos_token_id: null, eos_token_id: 0, tie_word_embeddings: false }));
  const bytes = readFileSync(join(model, 'model.safetensors'));
  const begin = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, begin).toString()) as Record<string, { data_offsets: [number, number] }>;
  const body = bytes.subarray(begin);
  const embedding = header['model.embed_tokens.weight']!;
  const [from, to] = embedding.data_offsets;
  header['lm_head.weight'] = { ...embedding, data_offsets: [body.length, body.length + to - from] };
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(join(model, 'model.safetensors'), Buffer.concat([length, text, body, body.subarray(from, to)]));
}

const vllm = process.env.FUSED_GRPO_VLLM;
(vllm ? describe : describe.skip)('vLLM', () => {
  let server: Running;
  const model = join(folder, 'made-up');
  beforeAll(async () => {
    writeMadeUpModel(model, { vocab: 13, hidden: 64, inner: 128, layers: 2, heads: 2, kvHeads: 2 }, demoModel()); // heads of 32, as vLLM needs
    adapt(model);
    cpSync(model, join(folder, 'served'), { recursive: true });
    const args = ['serve', join(folder, 'served'), '--served-model-name', 'policy', '--host', '127.0.0.1'];
    const small = ['--max-model-len', '64', '--max-num-seqs', '32', '--enforce-eager', '--dtype', 'float32', '--generation-config', 'vllm'];
    const env = { VLLM_SERVER_DEV_MODE: '1', VLLM_CPU_KVCACHE_SPACE: '1', HF_HUB_OFFLINE: '1', VLLM_NO_USAGE_STATS: '1' };
    server = await running(vllm!, (port) => [...args, ...small, '--port', String(port)], env, 600);
  }, 620000);

  serverTests(() => server, () => model, [{}, { topP: 0.9, topK: 8 }]); // prettier-ignore

  test('log-probs of another temperature are refused by its default mode', async () => {
    const rollout = openAICompatible({ urls: server.url, reload: 'none' });
    const run = collect(
      new GRPOTrainer({ model, rewardFuncs: fours, trainDataset: data, config: { ...training, temperature: 0.5 }, rollout }),
    );
    await expect(run).rejects.toThrow(/at temperature 1, not at `temperature`/);
  }, 120000);

  test('trains; the weights are reloaded, and named in the answers', async () => {
    const outputDir = join(folder, 'vllm-run');
    const rollout = openAICompatible({ urls: server.url });
    const trainer = new GRPOTrainer({
      ...{ model, rewardFuncs: fours, trainDataset: data, rollout },
      config: { ...training, learningRate: 2e-2, maxSteps: 30, outputDir, generateAhead: true, maxStaleness: 1 },
    });
    const steps = await collect(trainer);
    expect(steps.at(-1)!.metrics.reward).toBeGreaterThan(steps[0]!.metrics.reward + 0.2);
    expect(steps.map((s) => [s.metrics.staleness.max, s.metrics.rollout!.stale])).toEqual(steps.map((_, i) => [i === 0 ? 0 : 1, 0]));
    expect(Math.abs(steps[0]!.metrics.samplerKl!)).toBeLessThan(0.01);
    // the server has the weights that were handed over last
    expect(existsSync(join(outputDir, 'weights', 'model.safetensors'))).toBe(true);
    const last = await Policy.load(join(outputDir, 'weights'));
    const tokens = last.encode('12+7=');
    const request = {
      ...{ purpose: 'train' as const, numGenerations: 4, policyVersion: 0, signal: new AbortController().signal },
      prompts: [{ kind: 'text' as const, text: '', row: { prompt: '' }, tokens, seed: 3 }],
      sampling: { ...SAMPLING, stopTokenIds: [...last.eosTokenIds] },
      trainerState: { step: 0, totalSteps: 1, epoch: 0 },
    };
    const [group] = (await openAICompatible({ urls: server.url, reload: 'none' })(request)) as RolloutCompletion[][];
    const { logps } = await last.score(group!.map(() => tokens), group!.map((c) => Int32Array.from(c.tokens))); // prettier-ignore
    for (const [i, c] of group!.entries()) for (const [t, lp] of Array.from(c.samplerLogps!).entries()) expect(lp).toBeCloseTo(logps[i]![t]!, 2); // prettier-ignore
    last.dispose();
  }, 300000);
});
