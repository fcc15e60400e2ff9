// train --algorithm: one command, four algorithms, on the bundled model; evaluation; a PPO run's config.json starts the same run again.
import { afterAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { processContext } from '../../lib/cli/context.js';
import { runCli } from '../../lib/cli/main.js';
import { arithmeticProblems } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';

const folder = mkdtempSync(join(tmpdir(), 'algorithms-'));
afterAll(() => rmSync(folder, { recursive: true }));
const { train, heldOut } = arithmeticProblems();
const lines = (rows: object[]) => rows.map((row) => JSON.stringify(row)).join('\n');
writeFileSync(join(folder, 'train.jsonl'), lines(train.slice(0, 200)));
writeFileSync(join(folder, 'held-out.jsonl'), lines(heldOut.slice(0, 20)));

const base = ['--model', demoModel(), '--data', 'train.jsonl', '--reward', 'accuracy'];
const small = ['--max-steps', '3', '--per-device-train-batch-size', '32', '--max-completion-length', '4', '--save-steps', '0'];

async function cli(...argv: string[]): Promise<{ code: number; err: string; out: string }> {
  let [err, out] = ['', ''];
  const stdout = { write: (t: string) => (out += t) };
  const ctx = { ...processContext(), cwd: folder, stdout, stderr: { write: (t: string) => (err += t) } };
  return { code: await runCli(argv, ctx), err, out };
}
const metricsOf = (output: string) =>
  readFileSync(join(folder, output, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('train --algorithm', () => {
  test.each(['grpo', 'rloo', 'reinforce', 'ppo'])('%s', async (algorithm) => {
    const evaluation = ['--eval-data', 'held-out.jsonl', '--eval-steps', '2', '--eval-num-generations', '2'];
    const { code, err, out } = await cli(
      'train',
      ...base,
      ...small,
      '--algorithm',
      algorithm,
      '--output',
      algorithm,
      ...evaluation,
      '--json',
    );
    expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
    expect(JSON.parse(out)).toMatchObject({ status: 'ok', steps: 3 });
    const metrics = metricsOf(algorithm);
    expect(metrics.map((m) => 'evalPassAtK' in m)).toEqual([false, true, true]);
    expect(metrics.every((m) => 'valueLoss' in m === (algorithm === 'ppo'))).toBe(true);
    const config = JSON.parse(readFileSync(join(folder, algorithm, 'config.json'), 'utf8')) as Record<string, unknown>;
    const wanted = { grpo: ['grpo', 8], rloo: ['grpo', 8], reinforce: ['grpo', 1], ppo: ['ppo', 1] }[algorithm];
    expect([config.trainer, config.numGenerations]).toEqual(wanted);
    expect(readFileSync(join(folder, algorithm, 'report.html'), 'utf8')).toContain(`${algorithm.toUpperCase()} training run`);
  });

  test("a PPO run's config.json is a PPO run again", async () => {
    const { code, err } = await cli('train', '--config', 'ppo/config.json', '--reward', 'accuracy', '--output', 'again');
    expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
    const numbers = (output: string) => metricsOf(output).map(({ loss, valueLoss, reward }) => ({ loss, valueLoss, reward }));
    expect(numbers('again')).toEqual(numbers('ppo'));
  });

  test('a dry run of PPO counts the critic', async () => {
    const plan = async (algorithm: string) => {
      const { code, out } = await cli('train', ...base, ...small, '--algorithm', algorithm, '--dry-run', '--json');
      expect(code).toBe(0);
      return (JSON.parse(out) as { memory: { parts: { name: string; bytes: number }[] } }).memory.parts;
    };
    const [grpo, ppo] = [await plan('grpo'), await plan('ppo')];
    const bytes = (parts: typeof ppo, name: string) => parts.find((p) => p.name === name)?.bytes ?? 0;
    expect(bytes(grpo, 'critic')).toBe(0);
    expect(bytes(ppo, 'critic')).toBe(bytes(ppo, 'weights') + bytes(ppo, 'gradients') + bytes(ppo, 'moments'));
  });

  test("a preset's options for groups do not stand in PPO's way", async () => {
    const { code, err } = await cli('train', ...base, ...small, '--algorithm', 'ppo', '--preset', 'dapo', '--output', 'ppo-dapo');
    expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
  });

  test('a dry run looks at the output folder, the evaluation data and uneven rows', async () => {
    const dry = (...more: string[]) => cli('train', ...base, ...small, '--dry-run', ...more);
    expect((await dry('--output', 'grpo')).err).toMatch(/grpo already holds a run/);
    expect((await dry('--output', 'grpo', '--resume', 'auto')).code).toBe(0);
    writeFileSync(join(folder, 'bare.jsonl'), '{"prompt":"1+1="}');
    expect((await dry('--eval-data', 'bare.jsonl')).out).toMatch(/The evaluation data has no answer/);
    writeFileSync(join(folder, 'uneven.jsonl'), '{"prompt":"1+1=","answer":"2"}\n{"prompt":"1+1="}');
    const uneven = await cli('train', '--model', demoModel(), '--data', 'uneven.jsonl', '--reward', 'accuracy', ...small, '--dry-run');
    expect(uneven.out).toMatch(/Not every row of the data set has answer/);
  });

  test.each([
    [['--value-model', demoModel()], /--value-model belongs to --algorithm ppo/],
    [['--gamma', '0.9'], /gamma/],
    [['--algorithm', 'ppo', '--scale-rewards', 'batch'], /scaleRewards/],
    [['--algorithm', 'pppo'], /one of grpo, rloo, reinforce, ppo for --algorithm/],
    [['--eval-steps', '2'], /evalSteps needs evalDataset/],
    [['--eval-data', 'nowhere.jsonl'], /--eval-data: there is no file nowhere.jsonl/],
    [['--num-generations', '1'], /numGenerations 1 is no group/],
  ])('%j is refused', async (more, message) => {
    const { code, err } = await cli('train', ...base, ...small, '--output', 'refused', ...more);
    expect(code).toBe(2);
    expect(err).toMatch(message);
  });
});
