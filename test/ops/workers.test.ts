// Several worker_threads share one pool of native threads; ending them in the middle of a call must not hurt the others.
import { expect, test } from '@jest/globals';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { core } from '../../lib/native.js';

const SCRIPT = `
const { parentPort, workerData } = require('node:worker_threads');
const core = require(workerData.addon);
const N = 64, V = 20000;
const args = { rows: N, sequences: 1, offsets: Int32Array.of(0, N), logits: new Float32Array(N * V), dtype: 0, vocab: V, rowStride: V, sequenceStride: 0,
  targets: Int32Array.from({ length: N }, (_, i) => i), temperature: 1, entropy: true };
let s = 7;
for (let i = 0; i < N * V; ++i) { s = Math.imul(s, 1664525) + 1013904223 | 0; args.logits[i] = s / 3e8; }
const hash = () => { const o = core.selectiveLogp(args); return Buffer.from(o.logps.buffer).toString('hex') + Buffer.from(o.entropies.buffer).toString('hex'); };
const first = hash();
parentPort.postMessage('started');
for (let i = 0; workerData.forever || i < 20; ++i) if (hash() !== first) throw new Error('changed');
parentPort.postMessage(first);
`;

const start = (forever: boolean) =>
  new Worker(SCRIPT, { eval: true, workerData: { addon: join(__dirname, '../../build/Release/core.node'), forever } });

function result(worker: Worker): Promise<string> {
  return new Promise((resolve, reject) => {
    worker.on('message', (m: string) => m !== 'started' && resolve(m));
    worker.on('error', reject);
  });
}

test('four workers at once, two more ended in the middle: same bits for all', async () => {
  expect(core().threads()).toBeGreaterThan(0);
  const doomed = [start(true), start(true)];
  const workers = [start(false), start(false), start(false), start(false)];
  const results = workers.map(result);
  await Promise.all(doomed.map((w) => new Promise((resolve) => w.once('message', resolve))));
  await Promise.all(doomed.map((w) => w.terminate()));
  expect(new Set(await Promise.all(results)).size).toBe(1);
  await Promise.all(workers.map((w) => w.terminate()));
});
