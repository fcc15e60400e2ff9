// Trainers that come and go in processes that stay: one after another, side by side, taken up again, and left by one rank alone.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runRanks, type RankResult } from './support.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-again-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TIMEOUT = 20; // seconds; whoever waits for it makes a test fail
const config = (more: object = {}) => ({
  ...{ perDeviceTrainBatchSize: 8, numGenerations: 4, maxSteps: 4, learningRate: 1e-4, maxCompletionLength: 8, ddpTimeout: TIMEOUT },
  ...more,
});
const stepsOf = ({ steps }: RankResult, of?: string) => steps.filter((s) => s.of === of).map(({ step }) => step);
const lossesOf = (ranks: RankResult[], of?: string) => ranks[0]!.steps.filter((s) => s.of === of).map(({ metrics }) => metrics.loss);
let whole: Promise<RankResult[]> | undefined;
/** The run that nothing has disturbed. */
const undisturbed = () => (whole ??= runRanks(2, { config: config() }));

describe('trainers of one process', () => {
  test.each(['inTurn', 'sideBySide'] as const)(
    '%s: each meets its own',
    async (plan) => {
      const ranks = await runRanks(2, { plan, config: config() });
      for (const rank of ranks) {
        expect(rank).toMatchObject({ error: undefined, exit: 0 });
        for (const of of ['first', 'second']) expect(stepsOf(rank, of)).toEqual([1, 2, 3, 4]);
      }
      expect(lossesOf(ranks, 'first')).toEqual(lossesOf(await undisturbed()));
      expect(lossesOf(ranks, 'second')).not.toEqual(lossesOf(ranks, 'first'));
    },
    60_000,
  );

  test('a finished one that is iterated again has nothing to do, and waits for nobody', async () => {
    const outputDir = [0, 1].map((rank) => join(folder, `finished-${rank}`));
    const ranks = await runRanks(2, {
      ...{ plan: 'again', config: config({ outputDir: outputDir[0] }) },
      ranks: { 1: { config: { outputDir: outputDir[1] } } },
    });
    for (const rank of ranks) expect(rank).toMatchObject({ error: undefined, ends: ['first', 'second'] });
    expect(outputDir.map((dir) => existsSync(join(dir, 'model')))).toEqual([true, false]);
  }, 60_000);

  test.each([{}, { generateAhead: true }, { shardOptimizer: true }])(
    'after an error all go on where they were, with %j',
    async (more) => {
      const ranks = await runRanks(2, { plan: 'again', reward: 'brokenOnce', config: config(more) });
      expect(ranks.map(({ error }) => error)).toEqual([
        expect.stringMatching(/^Rank 1 ended \(step \d\): .*no luck once/),
        expect.stringMatching(/no luck once/),
      ]);
      for (const rank of ranks) expect([...stepsOf(rank, 'first'), ...stepsOf(rank, 'second')]).toEqual([1, 2, 3, 4]);
      const straight = more.generateAhead ? await runRanks(2, { config: config(more) }) : await undisturbed();
      expect([...lossesOf(ranks, 'first'), ...lossesOf(ranks, 'second')]).toEqual(lossesOf(straight));
    },
    60_000,
  );

  test.each([{}, { generateAhead: true }])(
    'a loop that all ranks leave is taken up again, with %j',
    async (more) => {
      const ranks = await runRanks(2, { plan: 'again', config: config(more), ranks: { 0: { break: 2 }, 1: { break: 2 } } });
      for (const rank of ranks) expect([rank.error, stepsOf(rank, 'first'), stepsOf(rank, 'second')]).toEqual([undefined, [1, 2], [3, 4]]);
    },
    60_000,
  );
});

test('ranks that come back with other weights than they left with are refused', async () => {
  const ranks = await runRanks(2, { plan: 'again', config: config(), ranks: { 0: { break: 2 }, 1: { break: 2, meddle: true } } });
  for (const rank of ranks)
    expect(rank).toMatchObject({
      ...{ code: 'ERR_RANKS_DIFFER', ends: ['first'] },
      error: expect.stringMatching(/the model is weights \w+ on rank 0, but weights \w+ on rank 1/),
    });
}, 60_000);

describe('a rank that leaves before the end tells the others, who do not wait for it', () => {
  const ways: [string, number, Record<string, unknown>, RegExp][] = [
    ['break', 1, { break: 2 }, /^Rank 1 ended \(step 3\): it left its loop after step 2$/],
    ['break of rank 0', 0, { break: 2 }, /^Rank 0 ended \(step 3\): it left its loop after step 2$/],
    ['an exception in its loop', 1, { throw: 2 }, /^Rank 1 ended \(step 3\): it left its loop after step 2$/],
    ['dispose()', 1, { dispose: 2 }, /^Rank 1 ended \(step 3\): its trainer was disposed$/],
    ['process.exit(0)', 1, { leave: 2, exit: 0 }, /^Rank 1 ended \(step 3\): its process ended with exit code 0, before the run was over$/],
    ['process.exit(0) of rank 0', 0, { leave: 2, exit: 0 }, /^Rank 0 ended \(step 3\): its process ended with exit code 0/],
    [
      'an evaluation set that is not there',
      1,
      { evalData: 'nowhere.jsonl' },
      /^Rank 1 ended \((before the first step|step 1)\): .*nowhere\.jsonl/,
    ],
  ];
  test.each(ways)(
    '%s',
    async (_, leaving, how, message) => {
      const ranks = await runRanks(2, { config: config(), evaluate: 'evalData' in how, ranks: { [leaving]: how } }, 30_000);
      const other = ranks[1 - leaving]!;
      expect(other).toMatchObject({ code: 'ERR_RANK_LOST', error: expect.stringMatching(message) });
      expect(other.seconds).toBeLessThan(TIMEOUT);
    },
    60_000,
  );
});
