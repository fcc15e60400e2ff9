// Whole updates held to TRL's own trainers (scripts/goldens/make_update_goldens.py): GRPOTrainer.compute_loss of TRL 1.16 and its gradients.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { Training } from '../../lib/engine/training.js';
import { stepLoss } from '../../lib/trainer/loss.js';
import { goldenModels, lists } from '../engine/support.js';
import { gradientError, gradientsOf, type StoredGradients } from '../support/update.js';

interface GrpoCase {
  family: string;
  name: string;
  config: { lossType: string; beta?: number; importanceSamplingLevel?: string };
  mask: number[];
  advantages: number[];
  oldLogps?: number[];
  refLogps?: number[];
  loss: number;
  clipped: number | null;
  grads: StoredGradients;
}
const golden = JSON.parse(readFileSync(join(__dirname, '../golden/update/grpo.json'), 'utf8')) as {
  prompts: number[][];
  completions: number[][];
  cases: GrpoCase[];
};

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-update-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const floats = (values?: number[]) => values && Float32Array.from(values);

test('the cases are the ones that matter', () => {
  expect(golden.cases.filter((c) => c.oldLogps).length).toBeGreaterThan(20);
  for (const lossType of ['dapo', 'grpo', 'bnpo', 'dr_grpo', 'cispo', 'sapo'])
    expect(golden.cases.some((c) => c.config.lossType === lossType)).toBe(true);
  expect(new Set(golden.cases.map((c) => c.family)).size).toBe(2);
  expect(golden.cases.some((c) => c.clipped! > 0.2)).toBe(true);
});

test.each(golden.cases)('$family, $name: loss and gradients', async ({ family, name, config, ...given }) => {
  const policy = await Policy.load(join(goldenModels, family), { dtype: 'float32' });
  try {
    const training = new Training(policy);
    const tokens = given.mask.reduce((a, b) => a + b);
    const loss = stepLoss({ maxCompletionLength: 16, ...config }, tokens, golden.completions.length);
    const batch = {
      ...lists(...golden.prompts.map((p, i) => [...p, ...golden.completions[i]!])),
      promptLengths: Int32Array.from(golden.prompts, (p) => p.length),
      advantages: floats(given.advantages)!,
      mask: Uint8Array.from(given.mask),
      oldLogps: floats(given.oldLogps),
      refLogps: floats(given.refLogps),
    };
    // What TRL splits into two micro-batches, we split into more: the loss is the step's, however it is cut.
    const result = await training.accumulate(batch, loss, { microBatchTokens: name.includes('micro') ? 20 : 0, fused: true });
    expect(result.tokens).toBe(tokens);
    expect(Math.abs(result.loss - given.loss)).toBeLessThan(1e-5);
    // A share of tokens; TRL's is one of sequences at that level.
    if (given.clipped !== null && config.importanceSamplingLevel !== 'sequence')
      expect(result.clipRatio.region).toBeCloseTo(given.clipped, 5);
    const error = gradientError(await gradientsOf(training, folder), given.grads);
    expect(error.entries).toBeLessThan(1e-5);
    expect(error.norms).toBeLessThan(1e-5);
  } finally {
    policy.dispose();
  }
});
