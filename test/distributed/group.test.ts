// ProcessGroup, and exchanges by NCCL: where there is no GPU, a library stands in for it (fake_nccl.cc) and gets what lies on the CPU, too.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ProcessGroup, Tensor } from '../../lib/index.js';
import { ownGpu } from '../../lib/distributed/placement.js';
import { freePort, library, runRanks } from './support.js';

let folder: string;
let nccl: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fg-group-'));
  nccl = join(folder, 'libnccl.so.2');
  const flags = ['-std=c++20', '-O2', '-fPIC', '-shared', '-pthread'];
  execFileSync(process.env.CXX?.trim() || 'g++', [...flags, join(__dirname, 'fake_nccl.cc'), '-o', nccl, '-lrt'], { stdio: 'inherit' });
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Job {
  plan: string;
  nccl: boolean;
  timeout?: number;
  patience?: number;
}

/** The lines that each process of a group printed. */
async function processes(count: number, job: Job, env: Record<string, string> = {}): Promise<unknown[][]> {
  const port = String(await freePort());
  const one = (rank: number) =>
    new Promise<unknown[]>((resolve, reject) => {
      const place = {
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        WORLD_SIZE: String(count),
        MASTER_ADDR: '127.0.0.1',
        MASTER_PORT: port,
      };
      const args = [join(__dirname, 'group.cjs'), library, JSON.stringify({ timeout: 20, ...job })];
      const child = spawn(process.execPath, args, {
        env: { ...process.env, NODE_OPTIONS: '', OMP_NUM_THREADS: '1', FUSED_GRPO_NCCL: nccl, ...place, ...env },
        stdio: ['ignore', 'pipe', 'inherit'],
        timeout: 60_000,
      });
      let out = '';
      child.stdout.on('data', (chunk) => (out += String(chunk)));
      child.on('error', reject);
      const values = () =>
        out
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line) as unknown);
      child.on('close', () => resolve(values()));
    });
  return Promise.all(Array.from({ length: count }, (_, rank) => one(rank)));
}

describe.each<[string, boolean]>([
  ['Gloo', false],
  ['NCCL', true],
])('by %s', (_: string, useNccl: boolean) => {
  test.each([2, 3])(
    'sums, means, copies and values of %i processes',
    async (count) => {
      const all = await processes(count, { plan: 'exchange', nccl: useNccl });
      const last = count - 1;
      const ranks = Array.from({ length: count }, (_, r) => r);
      const total = (count * last) / 2;
      all.forEach((lines, rank) =>
        expect(lines).toEqual([
          {
            ...{ rank, worldSize: count, device: 'cpu', wrong: -1, few: [total, count / 2] },
            ...{ whole: [total + count, count << 20], mean: [Math.fround(total / count), Math.fround((10 * total) / count)] },
          },
          { shared: [last, -last], bytes: [last, 200 + last], values: ranks.map((r) => [r, r]) },
          'ERR_DISPOSED',
        ]),
      );
    },
    60_000,
  );

  test('a group that was left is joined again', async () => {
    expect(await processes(2, { plan: 'again', nccl: useNccl })).toEqual([[[2]], [[2]]]);
  }, 60_000);

  test('shapes that differ are refused before anything is exchanged', async () => {
    const refused = {
      code: 'ERR_RANKS_DIFFER',
      message:
        'The ranks do not exchange the same: allReduce (sum) float32 [2, 3] on cpu on rank 0, but allReduce (sum) float32 [6] on cpu on rank 1',
    };
    expect(await processes(2, { plan: 'differ', nccl: useNccl })).toEqual([
      [refused, [2]],
      [refused, [2]],
    ]);
  }, 60_000);

  test('a process that is killed is named, and nobody waits for it longer than ddpTimeout', async () => {
    const [lines] = await processes(2, { plan: 'die', nccl: useNccl, timeout: 3 });
    expect(lines).toEqual([
      { code: 'ERR_RANK_LOST', message: expect.stringMatching(/^Rank 1 has given no sign of life for 3 s:/), seconds: expect.any(Number) },
      'ERR_RANK_LOST',
    ]);
    expect((lines![0] as { seconds: number }).seconds).toBeLessThan(9);
  }, 60_000);
});

test('a call that is aborted on one process ends the group on all', async () => {
  const [first, second] = await processes(2, { plan: 'abort', nccl: false });
  expect(first).toEqual([{ message: 'enough' }, 'enough']);
  expect(second).toEqual([
    { code: 'ERR_RANK_LOST', message: expect.stringMatching(/^Rank 0 ended: a call of its ProcessGroup was aborted$/) },
    'ERR_RANK_LOST',
  ]);
}, 60_000);

test('a long wait says for whom', async () => {
  const [first, second] = await processes(2, { plan: 'late', nccl: false, timeout: 5, patience: 1.5 });
  const words = (seconds: number) => `rank 0 has waited ${seconds} s for rank 1 (step 4), alive but not there yet`;
  expect([first, second]).toEqual([[[words(1.5), words(3)]], [[]]]);
}, 60_000);

describe('NCCL', () => {
  test('killed in the middle of a sum', async () => {
    const [lines] = await processes(2, { plan: 'fail', nccl: true, timeout: 3 }, { FAKE_NCCL_DIES: '1' });
    expect(lines).toEqual([{ code: 'ERR_RANK_LOST', message: expect.stringMatching(/^Rank 1 has given no sign of life for 3 s:/) }]);
  }, 60_000);

  test("its failures end the group, in NCCL's words on one process, as the other's end on all", async () => {
    const [first, second] = await processes(2, { plan: 'fail', nccl: true, timeout: 20 }, { FAKE_NCCL_FAILS: '1' });
    const words = /NCCL: invalid usage \(ncclAllReduce\): Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 1a000/;
    expect(second).toEqual([{ code: 'ERR_CUDA', message: expect.stringMatching(words) }]);
    expect(first).toEqual([{ code: 'ERR_RANK_LOST', message: expect.stringMatching(words) }]);
  }, 60_000);

  test.each([
    ['/nowhere/libnccl.so.2', /^NCCL, which GPUs of several processes exchange numbers by, cannot be loaded: .*nowhere.*FUSED_GRPO_NCCL/],
    ['libm.so.6', /^libm.so.6 has no ncclGetVersion: is it NCCL/],
  ])(
    '%s is no NCCL',
    async (file, words) => {
      const [, second] = await processes(2, { plan: 'fail', nccl: true, timeout: 20 }, { FUSED_GRPO_NCCL: file });
      expect(second).toEqual([
        { code: expect.stringMatching(/ERR_NO_CUDA|ERR_CUDA|ERR_RANK_LOST/), message: expect.stringMatching(words) },
      ]);
    },
    60_000,
  );

  test.each([{}, { shardOptimizer: true }])(
    'trainers, with %j',
    async (more) => {
      const config = {
        perDeviceTrainBatchSize: 8,
        numGenerations: 4,
        maxSteps: 3,
        learningRate: 1e-4,
        maxCompletionLength: 8,
        ddpTimeout: 20,
        ...more,
      };
      const before = process.env.FUSED_GRPO_NCCL;
      process.env.FUSED_GRPO_NCCL = nccl;
      try {
        const [gloo, fake] = [await runRanks(2, { reward: 'sum', config }), await runRanks(2, { reward: 'sum', config, nccl: true })];
        for (const rank of fake) expect(rank).toMatchObject({ error: undefined, exit: 0 });
        const losses = (runs: typeof gloo) => runs.flatMap(({ steps }) => steps.map(({ metrics }) => [metrics.loss!, metrics.gradNorm!]));
        expect(losses(fake)).toHaveLength(6);
        losses(fake).forEach(([loss, norm], i) => {
          expect(loss).toBeCloseTo(losses(gloo)[i]![0]!, 6);
          expect(norm).toBeGreaterThan(0);
          expect(norm! / losses(gloo)[i]![1]!).toBeCloseTo(1, 5);
        });
      } finally {
        if (before === undefined) delete process.env.FUSED_GRPO_NCCL;
        else process.env.FUSED_GRPO_NCCL = before;
      }
    },
    90_000,
  );
});

describe('a process alone', () => {
  test('is a group of one', async () => {
    const group = await ProcessGroup.join();
    expect([group.rank, group.worldSize]).toEqual([0, 1]);
    const t = Tensor.from(Float32Array.of(3), [1]);
    await group.allReduce([t], { op: 'mean' });
    await group.broadcast(t);
    await group.barrier();
    expect([await t.toArray(), await group.gather('x')]).toEqual([Float32Array.of(3), ['x']]);
    await group.leave();
    await expect(group.allReduce(t)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  test('mistakes are told in the names of the call', async () => {
    const group = await ProcessGroup.join();
    const t = Tensor.from(Float32Array.of(3), [1]);
    const bytes = Tensor.from(Uint8Array.of(3), [1]);
    await expect(group.allReduce([t, 3 as never])).rejects.toThrow(/Expected a Tensor for tensors\[1\]/);
    await expect(group.allReduce(bytes)).rejects.toThrow(/numbers that can be added up.*uint8/);
    await expect(group.allReduce(t, { op: 'max' as never })).rejects.toThrow(/'sum' or 'mean' for op/);
    await expect(group.allReduce(t, { operation: 'sum' } as never)).rejects.toThrow(/operation/);
    await expect(group.broadcast(t, 1)).rejects.toThrow(/rank from 0 to 0 for root/);
    await expect(ProcessGroup.join({ ddpTimeout: 0 })).rejects.toThrow(/ddpTimeout/);
    await expect(ProcessGroup.join({ timeout: 3 } as never)).rejects.toThrow(/timeout/);
    t.dispose();
    await expect(group.allReduce(t)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await group.leave();
  });
});

describe("a process's own GPU", () => {
  test('is that of LOCAL_RANK', () => expect([0, 1, 7].map((localRank) => ownGpu(8, { localRank }))).toEqual([0, 1, 7]));
  test('is the only visible one where the launcher shows each its own', () => expect(ownGpu(1, { localRank: 5 })).toBe(0));
  test('is the first for a process alone', () => expect(ownGpu(8, undefined)).toBe(0));
  test('more processes than GPUs', () => expect(() => ownGpu(2, { localRank: 2 })).toThrow(/LOCAL_RANK is 2, but this machine has 2 GPUs/));
});
