// examples/node: each example trains a toy policy to the top on memory that it shares with the loss (it asserts that itself).
// ONNX Runtime and TensorFlow.js are large and fetched from the npm registry: with FUSED_GRPO_SLOW_TESTS alone.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '../..');
const PACKAGES = ['onnxruntime-node@1.30.0', '@tensorflow/tfjs@4.22.0'];

/** The mean rewards that an example prints: of single steps, then of the first step and the last ones. */
function rewards(file: string): { steps: number[]; first: number; last: number } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } });
  expect([status, stderr]).toEqual([0, expect.any(String)]);
  const steps = [...stdout.matchAll(/step \d+, mean reward (\d\.\d+)/g)].map(([, r]) => Number(r));
  const [, first, last] = /mean reward (\d\.\d+) -> (\d\.\d+)\n/.exec(stdout)!;
  return { steps, first: Number(first), last: Number(last) };
}

test('typed arrays', () => {
  const { first, last } = rewards(join(root, 'examples/node/typed-arrays.mjs'));
  expect(first).toBeLessThan(0.2);
  expect(last).toBeGreaterThan(0.95);
});

(process.env.FUSED_GRPO_SLOW_TESTS ? describe : describe.skip)('with the packages of others', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'node-examples-'));
    writeFileSync(join(folder, 'package.json'), '{"private":true}');
    // The CPU part is in the package; its install script would look for CUDA's.
    execFileSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...PACKAGES], { cwd: folder, stdio: 'pipe' });
    symlinkSync(root, join(folder, 'node_modules/fused-grpo'));
    mkdirSync(join(folder, 'examples'));
    cpSync(join(root, 'examples/node'), join(folder, 'examples'), { recursive: true });
  }, 300_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('ONNX Runtime and TensorFlow.js compute the same model: both reach the top, step by step alike', () => {
    const [onnx, tfjs] = ['onnxruntime.mjs', 'tfjs.mjs'].map((name) => rewards(join(folder, 'examples', name)));
    for (const { first, last } of [onnx!, tfjs!]) {
      expect(first).toBeLessThan(0.2);
      expect(last).toBeGreaterThan(0.95);
    }
    expect(onnx!.steps).toHaveLength(5);
    expect(Math.abs(onnx!.steps[1]! - tfjs!.steps[1]!)).toBeLessThan(0.02); // two engines round differently
  }, 60_000);
});
