// Eight worker threads at once give the bits that one call alone gives: functional ops, ops on tensors, and a policy for each thread.
import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

const SCRIPT = `
const { createHash } = require('node:crypto');
const { parentPort, workerData } = require('node:worker_threads');
const api = require(workerData.dist);
const { GOOD } = require(workerData.good);
class Random { constructor(s) { this.s = s; } next() { this.s = (Math.imul(this.s, 1664525) + 1013904223) >>> 0; return this.s / 2 ** 32; }
  below(n) { return Math.floor(this.next() * n); } pick(a) { return a[this.below(a.length)]; } chance(p) { return this.next() < p; } }
const hash = createHash('sha256');
const take = (v) => {
  if (ArrayBuffer.isView(v)) hash.update(new Uint8Array(v.buffer, v.byteOffset, v.byteLength));
  else if (v !== null && typeof v === 'object') for (const k of Object.keys(v).sort()) { hash.update(k); take(v[k]); }
  else hash.update(String(v));
};
async function main() {
  for (let seed = 0; seed < 30; ++seed) for (const [name, make] of Object.entries(GOOD)) take(api[name](...make(new Random(seed))));
  const V = 3000, N = 32; // large enough for the pool of threads
  const logits = Float32Array.from({ length: N * V }, (_, i) => Math.sin(i) * 3);
  const batch = { vocabSize: V, targets: Int32Array.from({ length: N }, (_, i) => i * 7), rewards: [1, 0, 0, 1], numGenerations: 4, completionLength: 8 };
  take(api.grpoLoss({ ...batch, logits: logits.slice() }));
  if (workerData.engine) {
    const tensor = api.Tensor.from(logits, [N, V]);
    const result = await api.grpoLoss({ ...batch, logits: tensor });
    take({ loss: result.loss, logps: result.logps, gradient: await tensor.toArray() });
    tensor.dispose();
    const policy = await api.Policy.load(workerData.model);
    const { completions } = await policy.generate(['12+7=', '5+5='], { numGenerations: 6, maxNewTokens: 6, seed: 3 });
    take(completions.map((c) => ({ tokens: c.tokens, logps: c.logps })));
    take(await policy.score(['12+7=', '5+5='], completions, { entropy: true }));
    policy.dispose();
  }
  parentPort.postMessage(hash.digest('hex'));
}
main().catch((e) => parentPort.postMessage(String(e.stack)));
`;
const dist = join(__dirname, '../../dist/cjs/index.js');
const workerData = { dist, good: join(__dirname, 'good-calls.cjs'), model: join(__dirname, '../../demo/model') };

async function digest(engine: boolean): Promise<string> {
  const worker = new Worker(SCRIPT, { eval: true, workerData: { ...workerData, engine } });
  try {
    return await new Promise<string>((resolve, reject) => worker.once('message', resolve).once('error', reject));
  } finally {
    await worker.terminate();
  }
}

test.each([
  ['functional ops', false],
  ['engine', true],
])('%s: eight threads, the bits of one', async (_, engine) => {
  const alone = await digest(engine);
  expect(alone).toMatch(/^[0-9a-f]{64}$/);
  const together = await Promise.all(Array.from({ length: 8 }, () => digest(engine)));
  expect(new Set(together)).toEqual(new Set([alone]));
});

test('threads that end by themselves while calls are pending; the process goes on and ends well', () => {
  const body = `
    const { Worker } = require('node:worker_threads');
    const inside = \`const api = require(\${JSON.stringify(${JSON.stringify(dist)})});
      api.Policy.load(\${JSON.stringify(${JSON.stringify(workerData.model)})}).then((policy) => {
        for (let i = 0; i < 5; ++i) policy.generate(['1+1='], { numGenerations: 200, maxNewTokens: 60, ignoreEos: true });
        const t = api.Tensor.from(new Float32Array(4e6), [1000, 4000]);
        api.selectiveLogp({ logits: t, vocabSize: 4000, targets: new Int32Array(1000), entropy: true });
        t.dispose();
        setTimeout(() => process.exit(0), 10); // of the worker
      });\`;
    const ended = (i) => new Promise((resolve) => new Worker(inside, { eval: true }).once('exit', resolve));
    (async () => {
      for (let round = 0; round < 3; ++round) await Promise.all([0, 1, 2, 3].map(ended));
      const api = require(${JSON.stringify(dist)}); // the addons, loaded once more
      const policy = await api.Policy.load(${JSON.stringify(workerData.model)});
      console.log((await policy.generate(['1+1='], { seed: 1 })).completions.length);
      policy.dispose();
    })();`;
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', body], { encoding: 'utf8', timeout: 60_000 });
  expect({ status, signal, stdout, stderr }).toEqual({ status: 0, signal: null, stdout: '1\n', stderr: '' });
});
