import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { core, engine } from '../lib/native.js';

test('both addons load', () => {
  expect(core().version).toBe('0.1.0');
  expect(engine().info().torchVersion).toMatch(/^2\.\d+/);
});

test.each([
  ['x', "fused-grpo: FUSED_GRPO_THREADS is 'x', which is no number of threads; using "],
  ['2 threads', "fused-grpo: FUSED_GRPO_THREADS is '2 threads', which is no number of threads; using "],
  ['0', "fused-grpo: FUSED_GRPO_THREADS is '0', which is no number of threads; using "],
  ['3', ''],
])('FUSED_GRPO_THREADS=%s', (threads, words) => {
  const library = JSON.stringify(join(__dirname, '../dist/cjs/index.js'));
  const call = '{ logits: new Float32Array(4), vocabSize: 2, targets: Int32Array.of(0, 1) }';
  const env = { ...process.env, NODE_OPTIONS: '', FUSED_GRPO_THREADS: threads };
  const { stderr, status } = spawnSync(process.execPath, ['-e', `require(${library}).selectiveLogp(${call})`], { encoding: 'utf8', env });
  expect([status, stderr.slice(0, words.length || undefined)]).toEqual([0, words]);
});
