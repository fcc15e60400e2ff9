// What goes wrong between processes: every survivor ends in time and says which rank is missing, and the run goes on from its checkpoint.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { verifyCheckpoint } from '../../lib/trainer/checkpoint.js';
import { demoModel, freePort, library, runRanks, type Job, type RankResult } from './support.js';

let folder: string;
let count = 0;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-faults-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const outputDir = () => join(folder, String(count++));
const TIMEOUT = 2; // seconds
const config = (more: object = {}) => ({
  ...{ perDeviceTrainBatchSize: 8, numGenerations: 4, maxSteps: 8, learningRate: 1e-4, maxCompletionLength: 8, ddpTimeout: TIMEOUT },
  ...more,
});

const survivors = (ranks: RankResult[], lost: number) => ranks.filter((_, rank) => rank !== lost);

describe('a rank that is lost', () => {
  const ways: [string, Record<string, unknown>][] = [
    ['killed', { at: 3, signal: 'SIGKILL' }],
    ['stopped', { at: 3, signal: 'SIGSTOP' }],
    ['gone without a word', { leave: 3 }],
  ];
  test.each(ways)(
    '%s: the others end within the timeout, naming it and the step; the checkpoint is whole and goes on',
    async (_, how) => {
      const output = outputDir();
      const job: Job = { config: config({ outputDir: output, saveSteps: 2 }), ranks: { 1: how } };
      const ranks = await runRanks(3, job, 12_000);
      for (const rank of survivors(ranks, 1)) {
        expect(rank.error).toMatch(/^Rank 1 .*\(step 4\)/);
        expect(rank.code).toBe('ERR_RANK_LOST');
        expect(rank.steps.at(-1)!.step).toBe(3);
      }
      const saved = readdirSync(output).filter((name) => name.startsWith('checkpoint-'));
      expect(saved).toContain('checkpoint-2');
      for (const name of saved) await verifyCheckpoint(join(output, name));
      const again = await runRanks(3, { config: config({ outputDir: output, saveSteps: 2, resume: 'auto' }) });
      for (const rank of again) expect([rank.error, rank.steps.at(-1)?.step]).toEqual([undefined, 8]);
    },
    90_000,
  );

  test('rank 0: the others say that the meeting point is gone', async () => {
    const ranks = await runRanks(3, { config: config(), ranks: { 0: { at: 2, signal: 'SIGKILL' } } }, 20_000);
    for (const rank of survivors(ranks, 0)) expect([rank.error, rank.code]).toEqual([expect.stringMatching(/rank 0/), 'ERR_RANK_LOST']);
  }, 60_000);

  test('one whose own code fails: the others repeat its words', async () => {
    const ranks = await runRanks(3, { config: config(), reward: 'broken' }, 20_000);
    expect(ranks[1]).toMatchObject({ code: 'ERR_REWARD', error: expect.stringMatching(/no more luck/) });
    for (const rank of survivors(ranks, 1)) expect(rank.error).toMatch(/^Rank 1 ended \(step 3\): .*no more luck/);
  }, 60_000);

  test('a slow one is waited for, longer than the timeout', async () => {
    const ranks = await runRanks(2, { config: config({ maxSteps: 1, ddpTimeout: 1 }), reward: 'slow' }, 30_000);
    for (const rank of ranks) expect([rank.error, rank.steps.length]).toEqual([undefined, 1]);
  }, 60_000);
});

describe('ranks that do not agree are refused before the first step', () => {
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['an option', { config: { learningRate: 2e-4 } }, /learningRate is 0\.0001 on rank 0, but 0\.0002 on rank 1/],
    ['the data', { skipRows: 1 }, /the data set is "40 rows, .*" on rank 0, but "39 rows, .*" on rank 1/],
    ['a reward function', { reward: 'length' }, /reward function 'sum' is .* on rank 0, but nothing on rank 1/],
  ];
  test.each(cases)(
    '%s',
    async (_, theirs, message) => {
      const ranks = await runRanks(2, { config: config({ maxSteps: 4 }), ranks: { 1: theirs } }, 30_000);
      for (const rank of ranks)
        expect([rank.error, rank.code, rank.steps.length]).toEqual([expect.stringMatching(message), 'ERR_RANKS_DIFFER', 0]);
    },
    60_000,
  );

  test('the weights', async () => {
    const model = outputDir();
    cpSync(demoModel, model, { recursive: true });
    const weights = readFileSync(join(model, 'model.safetensors'));
    weights[weights.length - 2]! ^= 1;
    writeFileSync(join(model, 'model.safetensors'), weights);
    const ranks = await runRanks(2, { config: config(), ranks: { 1: { model } } }, 30_000);
    for (const rank of ranks) expect(rank.error).toMatch(/the model is "\w+" on rank 0, but "\w+" on rank 1/);
  }, 60_000);
});

describe('places where nobody meets', () => {
  const one = (env: Record<string, string>) =>
    new Promise<string>((resolve) => {
      const text = JSON.stringify({ model: demoModel, config: config({ ddpTimeout: 1 }) });
      const child = spawn(process.execPath, [join(__dirname, 'rank.cjs'), library, text], {
        env: { ...process.env, NODE_OPTIONS: '', ...env },
      });
      let out = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (out += String(chunk)));
      child.on('close', () => resolve(out.trim()));
    });
  const here = async (more: object = {}) => ({
    RANK: '0',
    WORLD_SIZE: '2',
    MASTER_ADDR: '127.0.0.1',
    MASTER_PORT: String(await freePort()),
    ...more,
  });

  test('the port is taken', async () => {
    const server = createServer().listen(0, '0.0.0.0');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const out = await one(await here({ MASTER_PORT: String(port) }));
    server.close();
    expect(JSON.parse(out)).toEqual({ error: `MASTER_PORT ${port} is taken on this machine: choose another one`, code: 'ERR_RANK_LOST' });
  }, 30_000);

  test('nobody is there, or the others do not come; nothing else is printed', async () => {
    const missing = JSON.parse(await one(await here({ RANK: '1' }))) as { error: string };
    expect(missing.error).toMatch(/^Nobody answers at MASTER_ADDR:MASTER_PORT, 127\.0\.0\.1:\d+, within 1 s: is rank 0 running there/);
    const alone = JSON.parse(await one(await here())) as { error: string };
    expect(alone.error).toMatch(/^Rank 1 has not come within 1 s \(before the first step\): was it started/);
  }, 30_000);

  test('a world of one needs no meeting', async () => {
    expect(await one(await here({ WORLD_SIZE: '1', MASTER_ADDR: 'nowhere.invalid' }))).toMatch(/"step":8/);
  }, 30_000);

  test('variables that make no sense', async () => {
    expect(await one({ RANK: '0', WORLD_SIZE: '' })).toMatch(/WORLD_SIZE is not set/);
    expect(await one(await here({ RANK: '2' }))).toMatch(/RANK 2 is not below WORLD_SIZE 2/);
    expect(await one(await here({ MASTER_PORT: '70000' }))).toMatch(/port from 1 to 65535 for MASTER_PORT/);
  }, 30_000);
});

describe('launch', () => {
  const cli = join(__dirname, '../../scripts/cli.mjs');
  const run = (args: string[], onOutput?: (text: string, kill: (signal: NodeJS.Signals) => void) => void) =>
    new Promise<{ exit: number | null; err: string }>((resolve) => {
      const child = spawn(process.execPath, [cli, 'launch', ...args], { env: { ...process.env, NODE_OPTIONS: '', FUSED_GRPO_DEBUG: '' } });
      let err = '';
      child.stderr.on('data', (chunk) => {
        err += String(chunk);
        onOutput?.(err, (signal) => void child.kill(signal));
      });
      child.on('close', (exit) => resolve({ exit, err }));
    });
  const training = (output: string, reward: string, ...more: string[]) => {
    const data = join(folder, 'prompts.jsonl');
    writeFileSync(data, Array.from({ length: 12 }, (_, i) => JSON.stringify({ prompt: `${i}+1=`, answer: String(i + 1) })).join('\n'));
    const module = join(folder, `${count++}.mjs`);
    writeFileSync(module, reward);
    return [
      ...['--', 'train', '--model', demoModel, '--data', data, '--reward', module, '--output', output],
      ...['--max-steps', '6', '--per-device-train-batch-size', '8', '--num-generations', '4', '--max-completion-length', '8'],
      ...['--save-steps', '1', '--ddp-timeout', '5', ...more],
    ];
  };
  const good = `export default ({ completions }) => completions.map((c) => c.length);`;

  test('two processes; one voice; a report', async () => {
    const output = outputDir();
    const { exit, err } = await run(['--nproc', '2', ...training(output, good)]);
    expect([exit, err]).toEqual([0, expect.stringMatching(/Done: /)]);
    expect(err.match(/Done: /g)).toHaveLength(1);
    expect(existsSync(join(output, 'report.html'))).toBe(true);
  }, 60_000);

  test('a rank dies: started again, the run goes on and ends well', async () => {
    const output = outputDir();
    const mark = join(folder, 'died');
    const reward = `import { existsSync, writeFileSync } from 'node:fs';
export default ({ completions, trainerState }) => {
  if (process.env.RANK === '1' && trainerState.step === 3 && !existsSync(${JSON.stringify(mark)})) {
    writeFileSync(${JSON.stringify(mark)}, '');
    process.kill(process.pid, 'SIGKILL');
  }
  return completions.map((c) => c.length);
};`;
    const { exit, err } = await run(['--nproc', '2', '--max-restarts', '1', ...training(output, reward, '--resume', 'auto')]);
    expect([exit, err]).toEqual([
      0,
      expect.stringMatching(/Rank 1 was ended by SIGKILL; starting all again \(1 of 1\)[\s\S]*Going on after step 3[\s\S]*Done: /),
    ]);
    const steps = readFileSync(join(output, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { step: number }).step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6]);
  }, 60_000);

  test('a mistake is told once with its rank, and ends with its exit code', async () => {
    const reward = `export default ({ completions }) => { if (process.env.RANK === '1') throw new Error('what?'); return completions.map(() => 0); };`;
    const { exit, err } = await run(['--nproc', '2', ...training(outputDir(), reward)]);
    expect(exit).toBe(1);
    expect(err).toMatch(/\[rank 1\] fused-grpo: Reward function .*what\?/);
    expect(err).toMatch(/Rank \d ended with exit code 1; the run has ended/);
    expect((await run(['--nproc', '2'])).err).toMatch(/launch needs a command after --/);
    expect((await run(training(outputDir(), good))).err).toMatch(/--nproc/);
  }, 60_000);

  test('Ctrl-C: saved, 130, and it goes on', async () => {
    const output = outputDir();
    const slow = `export default async ({ completions }) => { await new Promise((r) => setTimeout(r, 300)); return completions.map((c) => c.length); };`;
    let sent = false;
    const first = await run(['--nproc', '2', ...training(output, slow)], (text, kill) => {
      if (!sent && /train 1\/6/.test(text)) {
        sent = true;
        kill('SIGINT');
      }
    });
    expect([first.exit, first.err]).toEqual([130, expect.stringMatching(/Interrupted/)]);
    const second = await run(['--nproc', '2', ...training(output, good, '--resume', 'auto')]);
    expect([second.exit, second.err]).toEqual([0, expect.stringMatching(/Going on after step [1-5]/)]);
  }, 60_000);
});
