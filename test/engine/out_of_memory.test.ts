// A micro-batch that does not fit: the error says which would, that one does fit, and the gradients are those of the whole.
import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { goldenModels } from './support.js';

const SCRIPT = `
const { spawnSync } = require('node:child_process');
const { readFileSync } = require('node:fs');
const [, dist, model] = process.argv;
const { Policy } = require(dist + '/engine/policy.js');
const { Training } = require(dist + '/engine/training.js');
const limitData = (bytes) => {
  const { status, stderr } = spawnSync('prlimit', ['--pid', String(process.pid), '--data=' + bytes + ':unlimited'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
};
(async () => {
  const B = 6000, L = 40, P = 3;
  const tokens = Int32Array.from({ length: B * L }, (_, i) => 3 + ((i * 7 + Math.floor(i / L)) % 90));
  const batch = {
    tokens,
    offsets: Int32Array.from({ length: B + 1 }, (_, i) => i * L),
    promptLengths: new Int32Array(B).fill(P),
    advantages: Float32Array.from({ length: B }, (_, i) => (i % 3) - 1 + 0.1 * (i % 7)),
  };
  const loss = { lossType: 'dapo', normalizer: B * (L - P) };
  const optimizer = { learningRate: 0, weightDecay: 0, adamBeta1: 0.9, adamBeta2: 0.99, adamEpsilon: 1e-8, maxGradNorm: 0 };
  const policy = await Policy.load(model, { dtype: 'float32' });
  const training = new Training(policy);
  const run = (microBatchTokens) => training.accumulate(batch, loss, { microBatchTokens, fused: true });
  const out = {};
  await run(256); // what the process needs in any case
  out.wanted = await training.optimizerStep(optimizer);
  const used = 1024 * Number(/VmData:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
  limitData(used + (300 << 20));
  await run(1e9).catch((e) => Object.assign(out, { code: e.code, message: e.message }));
  const fits = /microBatchTokens: (\\d+) should fit/.exec(out.message)?.[1];
  if (fits) {
    out.fits = Number(fits);
    await run(out.fits);
    out.norm = await training.optimizerStep(optimizer);
  }
  console.log(JSON.stringify(out));
})();`;

const reason =
  process.platform !== 'linux'
    ? 'prlimit is a command of Linux'
    : spawnSync('prlimit', ['--version']).status !== 0
      ? 'no prlimit'
      : undefined;

(reason ? test.skip : test)(
  `not enough memory in a training step${reason ? ` (skipped: ${reason})` : ''}`,
  () => {
    const args = ['-e', SCRIPT, join(__dirname, '../../dist/cjs'), join(goldenModels, 'llama')];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } });
    expect([status, stderr]).toEqual([0, expect.anything()]);
    const out = JSON.parse(stdout) as { wanted: number; code: string; message: string; fits: number; norm: number };
    expect(out.code).toBe('ERR_OUT_OF_MEMORY');
    expect(out.message).toMatch(/6000 sequences \(\d+ rows\).*as they were/);
    expect(out.fits).toBeGreaterThan(1000);
    expect(Math.abs(out.norm - out.wanted) / out.wanted).toBeLessThan(1e-4);
  },
  60000,
);
