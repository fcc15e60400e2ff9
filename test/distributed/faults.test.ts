// What goes wrong between processes: every survivor ends in time and says which rank is missing, and the run goes on from its checkpoint.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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
  const ways: [string, Record<string, unknown>, string][] = [
    ['killed', { at: 3, signal: 'SIGKILL' }, '(has stopped answering|has given no sign of life for 2 s)'],
    ['stopped', { at: 3, signal: 'SIGSTOP' }, 'has given no sign of life for 2 s'],
    ['gone by process.exit', { leave: 3 }, 'ended'],
  ];
  test.each(ways)(
    '%s: the others end within the timeout, naming it and the step; the checkpoint is whole and goes on',
    async (_, how, words) => {
      const output = outputDir();
      const job: Job = { config: config({ outputDir: output, saveSteps: 2 }), ranks: { 1: how } };
      const ranks = await runRanks(3, job, 12_000);
      for (const rank of survivors(ranks, 1)) {
        expect(rank.error).toMatch(new RegExp(`^Rank 1 ${words} \\(step 4\\)`));
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
  const otherData = join(mkdtempSync(join(tmpdir(), 'fg-data-')), 'other.jsonl');
  beforeAll(() => writeFileSync(otherData, '{"prompt":"1+1=","answer":"2"}\n'.repeat(8)));
  afterAll(() => rmSync(join(otherData, '..'), { recursive: true }));
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['an option', { config: { learningRate: 2e-4 } }, /learningRate is 0\.0001 on rank 0, but 0\.0002 on rank 1/],
    [
      'the data',
      { skipRows: 1 },
      /the data set is in memory \(40 rows, SHA-256 \w+\) on rank 0, but in memory \(39 rows, SHA-256 \w+\) on rank 1/,
    ],
    [
      'the file of the data',
      { data: otherData },
      /the data set is in memory \(40 rows, .*\) on rank 0, but \S+other\.jsonl \(8 rows, SHA-256 \w+\) on rank 1/,
    ],
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
    for (const rank of ranks)
      expect(rank.error).toMatch(/the model is \S+demo\/model \(weights \w+\) on rank 0, but \S+ \(weights \w+\) on rank 1/);
  }, 60_000);
});

test('a checkpoint of steps of another size: what perDeviceTrainBatchSize would do', async () => {
  const job = { config: config({ maxSteps: 2, outputDir: outputDir(), resume: 'auto' }) };
  expect((await runRanks(1, job))[0]).toMatchObject({ error: undefined });
  for (const rank of await runRanks(2, { config: { ...job.config, maxSteps: 4 } }))
    expect(rank.error).toMatch(/perDeviceTrainBatchSize times the number of processes was 8 and is now 16 \(8 x 2\); 4 would do/);
}, 60_000);

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
    expect(missing.error).toMatch(
      /^Nobody answers at MASTER_ADDR:MASTER_PORT, 127\.0\.0\.1:\d+, within 1 s: is rank 0 running there, and are both set to the same on all ranks\?$/,
    );
    const alone = JSON.parse(await one(await here())) as { error: string };
    expect(alone.error).toMatch(/^Rank 1 has not come within 1 s \(before the first step\): was it started/);
  }, 30_000);

  test('somebody takes connections and says nothing', async () => {
    const silent = createServer(() => undefined).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    const begin = performance.now();
    const out = JSON.parse(await one(await here({ RANK: '1', MASTER_PORT: String(port) }))) as { error: string };
    silent.close();
    expect(out.error).toMatch(/^Something takes connections at .*, and does not answer within 1 s: it is not rank 0 of a run, or/);
    expect(performance.now() - begin).toBeLessThan(10_000);
  }, 30_000);

  test('ranks that count differently', async () => {
    const where = await here();
    for (const sizes of [
      [2, 3],
      [3, 2],
    ]) {
      const port = String(await freePort());
      const outs = await Promise.all(
        sizes.map((size, rank) => one({ ...where, MASTER_PORT: port, RANK: String(rank), WORLD_SIZE: String(size) })),
      );
      for (const out of outs) expect(out).toContain(`WORLD_SIZE is ${sizes[0]} on rank 0, but ${sizes[1]} on rank 1`);
    }
  }, 30_000);

  test('MASTER_ADDR is no name, or that of another machine', async () => {
    const unknown = JSON.parse(await one(await here({ MASTER_ADDR: 'nowhere.invalid' }))) as { error: string };
    expect(unknown.error).toBe("This machine knows no address for MASTER_ADDR 'nowhere.invalid'");
    const elsewhere = JSON.parse(await one(await here({ MASTER_ADDR: '192.0.2.1' }))) as { error: string }; // of nobody (RFC 5737)
    expect(elsewhere.error).toMatch(
      /^Rank 0 does not reach itself at MASTER_ADDR:MASTER_PORT, 192\.0\.2\.1:\d+, within 1 s: MASTER_ADDR must be a name or an address of the machine of rank 0$/,
    );
  }, 30_000);

  test('a network interface that is not there', async () => {
    const out = JSON.parse(await one(await here({ GLOO_SOCKET_IFNAME: 'eth99' }))) as { error: string; code: string };
    expect(out.error).toMatch(/^GLOO_SOCKET_IFNAME names 'eth99', but this machine has no such network interface .*; it has .*\blo\b/);
    expect(out.code).toBe('ERR_INVALID_ARG');
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
