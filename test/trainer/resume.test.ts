// What a stranger found: reward functions that change their input, evaluations that are interrupted, two runs in one folder, samples after a resume.
import { describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import type { RewardFn } from '../../lib/trainer/reward-types.js';
import type { GRPOStep } from '../../lib/trainer/types.js';
import { evalDataset, logOf, newFolder, numbers, run, small, trainDataset, warningsOf, weightsOf } from './support.js';

const rows = evalDataset.slice(0, 12);
const stopAt = (at: number) => ({
  onStep: ({ step }: GRPOStep) => {
    if (step === at) throw new Error('stop');
  },
});

test('a reward function that overwrites what it is given harms neither the rollout, nor other functions, nor the data', async () => {
  const vandal: RewardFn = ({ completionTokens, completions, prompts, trainerState, ...columns }) => {
    const values = completionTokens.map((tokens) => tokens.length);
    completionTokens.forEach((tokens) => tokens.fill(1 << 20));
    completions.fill('HACK');
    prompts.reverse();
    trainerState.step = 77;
    (columns.answer as string[]).fill('HACK');
    return values;
  };
  const polite: RewardFn = ({ completionTokens }) => completionTokens.map((tokens) => tokens.length);
  const both = async (first: RewardFn) =>
    (await run({ saveSteps: 0, maxSteps: 2, rewardConcurrency: 1 }, { rewardFuncs: [first, correctAnswer] })).map(({ metrics }) => {
      const { rewards, ...rest } = numbers(metrics);
      return { ...rest, rewards: Object.values(rewards) };
    });
  expect(await both(vandal)).toEqual(await both(polite));
  const nested = trainDataset.slice(0, 40).map((row) => ({ ...row, meta: { answers: [row.answer] } }));
  const before = JSON.stringify(nested);
  const deep: RewardFn = ({ meta }) => (meta as { answers: string[] }[]).map((m) => m.answers.push('x'));
  await run({ saveSteps: 0, maxSteps: 1 }, { rewardFuncs: deep, trainDataset: nested });
  expect(JSON.stringify(nested)).toBe(before);
});

describe('an evaluation that did not come to its end is made up', () => {
  const config = { maxSteps: 6, evalSteps: 3, evalNumGenerations: 2, loadBestModelAtEnd: true };
  const failing = (when: (step: number) => boolean): RewardFn => {
    let seen = 0;
    return (input) => {
      const evaluating = input.completions.length < 30; // a step has 32
      if (evaluating && when(input.trainerState.step) && seen++ === 0) throw new Error('no judge');
      return correctAnswer(input);
    };
  };

  test.each([3, 6])('at step %i', async (at) => {
    const [whole, parts] = [newFolder(), newFolder()];
    await run({ ...config, outputDir: whole }, { evalDataset: rows });
    const rewardFuncs = failing((step) => step === at);
    const first = run({ ...config, outputDir: parts }, { evalDataset: rows, rewardFuncs });
    await expect(first).rejects.toThrow(/no judge \(resume\.test\.ts:\d+:\d+\)/);
    expect(existsSync(join(parts, 'model'))).toBe(false);
    await run({ ...config, outputDir: parts, resume: 'auto' }, { evalDataset: rows });
    const plain = (folder: string) => logOf(folder).map(({ rewards: _r, ...rest }) => rest); // the functions have two names
    expect(plain(parts)).toEqual(plain(whole));
    expect(weightsOf(parts).equals(weightsOf(whole))).toBe(true);
    expect(readFileSync(join(parts, 'best.json'), 'utf8')).toBe(readFileSync(join(whole, 'best.json'), 'utf8'));
  });
});

test('samples.jsonl follows the same prompts after a resume', async () => {
  const few = trainDataset.slice(0, 24);
  const [whole, parts] = [newFolder(), newFolder()];
  const config = { maxSteps: 12, shuffleDataset: false };
  await run({ ...config, outputDir: whole }, { trainDataset: few });
  await run({ ...config, outputDir: parts }, { trainDataset: few, ...stopAt(2) }).catch(() => undefined);
  await run({ ...config, outputDir: parts, resume: 'auto' }, { trainDataset: few });
  const samples = (folder: string) => readFileSync(join(folder, 'samples.jsonl'), 'utf8');
  expect(samples(parts)).toBe(samples(whole));
});

describe('one run writes into a folder at a time', () => {
  test('another of this process, or of another one, is refused; what a dead one left is not in the way', async () => {
    const outputDir = newFolder();
    let inner: unknown;
    await run(
      { outputDir, maxSteps: 2 },
      { onStep: async () => void (inner = await run({ outputDir, resume: 'auto' }).catch((e: Error) => e.message)) },
    );
    expect(inner).toMatch(/is being written by another run \(of this process\)/);
    expect(existsSync(join(outputDir, '.running'))).toBe(false);
    const other = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)']);
    const stat = () => readFileSync(`/proc/${other.pid}/stat`, 'utf8');
    const start = stat().slice(stat().lastIndexOf(')') + 2).split(' ')[19]; // prettier-ignore
    const lock = (s?: string) => writeFileSync(join(outputDir, '.running'), JSON.stringify({ pid: other.pid, start: s }));
    lock(start);
    await expect(run({ outputDir, maxSteps: 3, resume: 'auto' })).rejects.toThrow(`another run (process ${other.pid})`);
    lock('1'); // a process of that number, but not the one that wrote this
    expect((await run({ outputDir, maxSteps: 3, resume: 'auto' })).length).toBe(1);
    lock(start);
    other.kill('SIGKILL');
    await new Promise((resolve) => other.on('exit', resolve));
    expect((await run({ outputDir, maxSteps: 4, resume: 'auto' })).length).toBe(1);
  });

  test('a run without a checkpoint begins anew, and says so', async () => {
    const outputDir = newFolder();
    await run({ outputDir, maxSteps: 1, saveSteps: 0 }, { onStep: () => { throw new Error('stop'); } }).catch(() => undefined); // prettier-ignore
    writeFileSync(join(outputDir, 'metrics.jsonl'), '{"step":1}\n');
    const { rmSync } = await import('node:fs');
    rmSync(join(outputDir, 'checkpoint-1'), { recursive: true, force: true });
    const warnings = await warningsOf(() => run({ ...small, outputDir, maxSteps: 1, resume: 'auto' }));
    expect(warnings.join()).toMatch(/has a run without a checkpoint: it begins anew/);
    expect(logOf(outputDir).length).toBe(1);
  });
});
