// Aborting, disposing, many calls at once, worker threads and exits.
import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { addonFile } from '../../lib/native.js';
import { engine } from '../../lib/native.js';
import { readFolder } from '../../lib/engine/folder.js';
import { Policy } from '../../lib/engine/policy.js';
import { goldenModels, lists, loadGolden } from './support.js';

const prompt = Int32Array.of(5, 17, 40, 9);
const long = { numGenerations: 400, maxNewTokens: 60, ignoreEos: true };

describe('AbortSignal', () => {
  test('stops between tokens, rejects with the reason, and the model goes on', async () => {
    const policy = await loadGolden('llama');
    const reason = new Error('enough');
    const controller = new AbortController();
    const call = policy.generate(new Array<Int32Array>(50).fill(prompt), { ...long, signal: controller.signal });
    setTimeout(() => controller.abort(reason), 20);
    const start = performance.now();
    await expect(call).rejects.toBe(reason);
    expect(performance.now() - start).toBeLessThan(2000);
    expect((await policy.generate([prompt], { maxNewTokens: 3 })).completions).toHaveLength(1);
    policy.dispose();
  });

  test('an aborted signal starts nothing; a signal that never fires leaves no listener', async () => {
    const policy = await loadGolden('llama');
    const gone = AbortSignal.abort(new Error('before'));
    await expect(policy.generate([prompt], { signal: gone })).rejects.toThrow('before');
    await expect(policy.score([prompt], [prompt], { signal: gone })).rejects.toThrow('before');
    await expect(policy.save('/nowhere', { signal: gone })).rejects.toThrow('before');
    await expect(Policy.load(join(goldenModels, 'llama'), { signal: gone })).rejects.toThrow('before');
    let listeners = 0;
    const controller = new AbortController();
    const { signal } = controller;
    const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
    signal.addEventListener = (...a: Parameters<typeof add>) => (listeners++, add(...a));
    signal.removeEventListener = (...a: Parameters<typeof remove>) => (listeners--, remove(...a));
    await policy.generate([prompt], { maxNewTokens: 2, signal });
    expect(listeners).toBe(0);
    policy.dispose();
  });

  test('a queued call can be aborted', async () => {
    const policy = await loadGolden('llama');
    const controller = new AbortController();
    const first = policy.generate([prompt], { ...long, numGenerations: 100 });
    const second = policy.generate([prompt], { maxNewTokens: 2, signal: controller.signal });
    controller.abort();
    await expect(second).rejects.toMatchObject({ name: 'AbortError' });
    expect((await first).completions).toHaveLength(100);
    policy.dispose();
  });
});

describe('dispose', () => {
  test('is idempotent; later calls throw ERR_DISPOSED', async () => {
    const policy = await loadGolden('gpt2');
    policy.dispose();
    policy.dispose();
    policy[Symbol.dispose]();
    expect(policy.disposed).toBe(true);
    await expect(policy.generate([prompt])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(policy.score([prompt], [prompt])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(policy.save('/nowhere')).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    expect(() => policy.native.logits(lists([1]))).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  });

  test('settles what is running and what waits', async () => {
    const policy = await loadGolden('llama');
    const calls = [
      policy.generate([prompt, prompt], long),
      policy.generate([prompt], { maxNewTokens: 1 }),
      policy.score([prompt], [prompt]),
    ];
    setTimeout(() => policy.dispose(), 10);
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  test('loading and disposing again and again gives the memory back', async () => {
    for (let i = 0; i < 5; ++i) (await loadGolden('llama')).dispose();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 60; ++i) (await loadGolden('llama')).dispose();
    expect(process.memoryUsage().rss - before).toBeLessThan(30e6);
  });
});

test('many calls at once are served in order', async () => {
  const policy = await loadGolden('llama');
  const order: number[] = [];
  const calls = Array.from({ length: 32 }, (_, i) =>
    policy.generate([prompt], { maxNewTokens: 4, seed: i }).then((r) => (order.push(i), r)),
  );
  const results = await Promise.all(calls);
  expect(order).toEqual(results.map((_, i) => i));
  const alone = await policy.generate([prompt], { maxNewTokens: 4, seed: 17 });
  expect(results[17]!.completions[0]!.tokens).toEqual(alone.completions[0]!.tokens);
  policy.dispose();
});

test('methods on a foreign receiver throw', async () => {
  const policy = await loadGolden('llama');
  const native = policy.native as unknown as { logits: (this: unknown, sequences: object) => unknown };
  expect(() => native.logits.call({}, lists([1]))).toThrow();
  policy.dispose();
});

/** What gives a fresh process, or a worker of it, a native model. */
function preamble(): string {
  const { native } = readFolder(join(goldenModels, 'llama')).config;
  const config = JSON.stringify({ ...native, layerRope: [...native.layerRope], layerWindow: [...native.layerWindow] });
  return `
    const addon = require(${JSON.stringify(addonFile('engine'))});
    const config = ${config};
    for (const key of ['layerRope', 'layerWindow']) config[key] = Int32Array.from(config[key]);
    const lists = { tokens: Int32Array.of(5, 17), offsets: Int32Array.of(0, 2) };
    const options = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 1, step: 0, numGenerations: 500, maxNewTokens: 60,
      promptOffset: 0, eosTokenIds: new Int32Array(0), stop: [] };
    const model = () => { const m = new addon.Model({ threads: 0 });
      m.load(config, [${JSON.stringify(join(goldenModels, 'llama/model.safetensors'))}], 'float32'); return m; };`;
}

function child(body: string): { status: number | null; signal: string | null; stdout: string } {
  const env = { ...process.env, OMP_WAIT_POLICY: 'PASSIVE', NODE_OPTIONS: '' };
  const { status, signal, stdout } = spawnSync(process.execPath, ['-e', preamble() + body], { encoding: 'utf8', timeout: 60000, env });
  return { status, signal, stdout };
}

describe('in a process of its own', () => {
  test('the engine loads (so that the next ones mean something)', () => {
    expect(engine().info().torchVersion).toBeTruthy();
    expect(child(`model().generate(lists, options).promise.then((r) => console.log(r.length))`)).toMatchObject({
      status: 0,
      stdout: '500\n',
    });
  });

  test('an idle model does not keep the process alive, a pending call does', () => {
    expect(child(`model().logits(lists).promise.then((z) => console.log(z.length))`)).toMatchObject({ status: 0, stdout: '194\n' });
  });

  test('process.exit in the middle of a call', () => {
    expect(
      child(`const m = model(); for (let i = 0; i < 20; ++i) m.generate(lists, options); setTimeout(() => process.exit(3), 60);`),
    ).toMatchObject({ status: 3, signal: null });
  });

  test('an uncaught error in the middle of a call', () => {
    expect(child(`const m = model(); m.generate(lists, options); setTimeout(() => { throw new Error('x') }, 40);`)).toMatchObject({
      status: 1,
      signal: null,
    });
  });

  test('worker threads: terminated in the middle of calls, and the main thread goes on', () => {
    const inWorker = `${preamble()}
      require('node:worker_threads').parentPort.postMessage('started');
      const m = model(); m.generate(lists, options); m.generate(lists, options);`;
    const body = `
      const { Worker } = require('node:worker_threads');
      (async () => {
        for (let i = 0; i < 6; ++i) {
          const worker = new Worker(${JSON.stringify(inWorker)}, { eval: true });
          await new Promise((r) => worker.once('message', r));
          await new Promise((r) => setTimeout(r, 15 * i));
          await worker.terminate();
        }
        options.numGenerations = 3;
        console.log((await model().generate(lists, options).promise).length);
      })();`;
    expect(child(body)).toEqual({ status: 0, signal: null, stdout: '3\n' });
  });
});
