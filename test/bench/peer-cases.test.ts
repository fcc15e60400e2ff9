import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findPeers } from '../../lib/bench/index.js';
import { lossCase } from '../../lib/bench/loss.js';
import { linearCase } from '../../lib/bench/linear.js';
import { caseText, html, markdown, resultsOf } from '../../lib/bench/output.js';
import { largestDifference } from '../../lib/bench/peers/check.js';
import { peerStepRows, peerSteps, runPeers } from '../../lib/bench/peers/step.js';
import { benchStep, stepCase, type StepShape } from '../../lib/bench/step.js';
import { runCli } from '../../lib/cli/main.js';
import { packageRoot } from '../../lib/native.js';
import { fake } from '../cli/fake.js';
import { fakePython, peersOf, setting, versions } from './stand-in.js';

const demo = join(packageRoot, 'demo', 'model');

test('differences', () => {
  const f = (...x: number[]): Float32Array => Float32Array.from(x);
  expect(largestDifference(f(1, 2, 4), f(1, 3, -8))).toBe(12 / 8);
  expect(largestDifference(f(0, 0), f(0, 0))).toBe(0);
  expect(largestDifference(f(1), f(0))).toBe(Infinity);
  expect(largestDifference(f(1), f(1, 1))).toBe(Infinity);
  expect(largestDifference(f(5, NaN, 5), f(5, 5, 5))).toBeNaN();
  expect(largestDifference(Uint16Array.of(0x3f80), f(2))).toBe(0.5); // bfloat16 1
});

const shape = { tokens: 6, vocab: 11, dtype: 'float32', selected: 1, level: 'token' } as const;

test('a peer that computes the same agrees, and is held to fp64 as we are', async () => {
  const result = await lossCase(shape, { rounds: 1, peers: peersOf('good') });
  const theirs = result.rows.slice(-2);
  expect(theirs.map((r) => [r.name, r.disagrees])).toEqual([
    ['TRL 3', false],
    ['TRL 3 (malloc kept)', false],
  ]);
  for (const row of theirs) {
    expect(row.difference).toBeGreaterThan(0);
    expect(row.difference).toBeLessThan(1e-5);
    expect(row.error).toBeLessThan(1e-5);
  }
  expect(result.rows[1]).toMatchObject({ name: 'grpoLoss, fused' });
  expect(result.rows[1]!.difference).toBeUndefined();
  expect(caseText(result)).toMatch(/difference to ours/);
  expect(caseText(result)).not.toMatch(/DISAGREES/);
});

test.each(['wrong gradient', 'wrong loss', 'wrong entropy', 'nan', 'short'])(
  'a peer with fault %s is said to disagree, everywhere',
  async (way) => {
    const result = await lossCase(shape, { rounds: 1, peers: peersOf(way) });
    expect(result.rows.at(-1)).toMatchObject({ name: 'TRL 3 (malloc kept)', disagrees: true });
    const results = resultsOf([result], versions);
    for (const text of [caseText(result), markdown(results), html(results)]) expect(text.match(/DISAGREES WITH OURS/g)).toHaveLength(2);
    expect(markdown(results)).toContain('peers: python 3.0, torch 1, trl 3');
  },
);

test('without peers there is no column for them; notes are shown', async () => {
  const without = await lossCase(shape, { rounds: 1 });
  expect(caseText(without) + markdown(resultsOf([without]))).not.toMatch(/difference|peers/);
  const result = await linearCase(
    { tokens: 4, width: 8, vocab: 31, dtype: 'float32', workspaceBytes: 4096 },
    { rounds: 1, peers: peersOf('dies') },
  );
  const results = resultsOf([result]);
  for (const text of [caseText(result), markdown(results), html(results)]) {
    expect(text).toContain('TRL 3 (malloc kept): left out, its process ended (exit code 3): MemoryError: too large');
    expect(text).toContain('Liger: left out, liger-kernel is not installed');
  }
  expect(result.rows.map((r) => r.name)).toEqual(['three matrix products', 'linearGrpoLoss, fused', 'linearGrpoLoss, sequence level']);
});

const step: StepShape = {
  ...{ model: demo, prompts: 2, numGenerations: 2, promptLength: 3, maxCompletionLength: 4, dtype: 'auto', beta: 0, microBatchTokens: 0 },
};

test('steps of peers stand beside ours, with the ratio round by round', async () => {
  const peers = peersOf('good');
  const result = await benchStep(step, { rounds: 2, peers });
  expect(result.peers).toEqual({
    versions,
    notes: undefined,
    steps: (
      [
        ['TRL 3', 4],
        ['TRL 3 (malloc kept)', 2],
      ] as const
    ).map(([name, seconds]) => ({
      ...{
        name,
        stepSeconds: { median: seconds, min: seconds },
        phases: { generate: 1, loss: 0.5 },
        peakRssBytes: 5e6,
        generatedTokens: 16,
      },
      ...{ timesOurs: expect.any(Number), fastestTimesOurs: seconds / result.stepSeconds.min },
    })),
  });
  const ratio = result.peers!.steps[0]!.timesOurs;
  expect(ratio).toBeCloseTo(2 * result.peers!.steps[1]!.timesOurs, 9);
  expect(ratio).toBeLessThanOrEqual(4 / result.stepSeconds.min);
  expect(ratio).toBeGreaterThan(1); // a step here takes milliseconds
  expect(peers.lines().filter((l) => l === 'run plain')).toHaveLength(3); // one to warm up
  const rows = (await stepCase(step, { rounds: 1, peers: peersOf('good') })).rows.slice(-3);
  expect(rows.map((r) => r.name)).toEqual(['whole step', 'generate', 'loss'].map((part) => `TRL 3 (malloc kept): ${part}`));
  expect(rows[1]!.perBaseline).toBeCloseTo(rows[0]!.perBaseline / 2, 9);
  expect(rows[0]!.tokensPerSecond).toBe(8);
});

test('a ratio is of a round, and their median is told', async () => {
  const open = await peersOf('good').open(['step'], () => ({
    prompts: [[1]],
    numGenerations: 2,
    maxCompletionLength: 3,
    seconds: [90, 4, 6, 9],
  }));
  for (const keep of [false, true, true, true]) await runPeers(open, 6, keep);
  await open.close();
  expect(peerSteps(open, [2, 1, 5])[0]).toMatchObject({ timesOurs: 2, fastestTimesOurs: 4, stepSeconds: { median: 6, min: 4 } });
  expect(peerStepRows(open, [2, 1, 5], 60)[0]).toMatchObject({ perBaseline: 2, tokensPerSecond: 10 });
});

test('a peer that generates another number of tokens is left out', async () => {
  const { peers } = await benchStep(step, { rounds: 1, peers: peersOf('few tokens') });
  expect(peers!.steps).toEqual([]);
  expect(peers!.notes).toContain('TRL 3: left out, it generated 15 tokens in a step where we generate 16');
});

test('the command line: peers of a step as JSON and as text, and a machine that cannot have them', async () => {
  const argv = ['bench', 'step', '--model', demo, '--prompts', '2', '--num-generations', '2', '--prompt-length', '3'];
  const more = ['--max-completion-length', '4', '--steps', '1', '--with-peers'];
  const run = async (python: string, ...last: string[]) => {
    const f = fake(undefined, { env: setting('good', { FUSED_GRPO_PEERS_PYTHON: python }).env });
    expect(await runCli([...argv, ...more, ...last], f.ctx)).toBe(0);
    return f;
  };
  expect(JSON.parse((await run(fakePython, '--json')).out()).peers.steps[1]).toMatchObject({
    name: 'TRL 3 (malloc kept)',
    generatedTokens: 16,
  });
  expect((await run(fakePython)).out()).toMatch(/TRL 3 \(malloc kept\): 2\.\d+ s, \d+\.\d\d x ours/);
  const without = await run('/nowhere/python', '--json');
  expect(without.err()).toMatch(/^Without peers: \/nowhere\/python cannot be used: .*ENOENT$/m);
  expect(JSON.parse(without.out()).peers).toEqual({ versions: {}, steps: [], notes: [expect.stringContaining('/nowhere/python')] });
});

test('the suite writes peers and their versions; a case without peers asks for none', async () => {
  const { env, lines } = setting('good', { FUSED_GRPO_PEERS_PYTHON: fakePython });
  const f = fake(undefined, { env });
  const suite = ['--quick', '--rounds', '1', '--with-peers', '--output', 'out'];
  expect(await runCli(['bench', 'advantages', ...suite], f.ctx)).toBe(0);
  expect(f.err()).toContain('Peers are measured in loss, linear and step');
  expect(lines()).toEqual(['']);
  expect(await runCli(['bench', 'step', ...suite], f.ctx)).toBe(0);
  const results = JSON.parse(readFileSync(join(f.folder, 'out', 'results.json'), 'utf8'));
  expect(results.versions.peers).toMatchObject({ trl: '3' });
  expect(results.cases[0].rows.map((r: { name: string }) => r.name)).toContain('TRL 3: whole step');
  expect(f.out()).toContain('TRL 3 (malloc kept): whole step');
});

test('nothing is looked for without --with-peers; --peers-folder needs it', async () => {
  const { env, lines } = setting('good', { FUSED_GRPO_PEERS_PYTHON: fakePython });
  const f = fake(undefined, { env });
  expect(await runCli(['bench', 'step', '--quick', '--rounds', '1'], f.ctx)).toBe(0);
  expect(lines()).toEqual(['']);
  expect(f.out()).not.toContain('TRL');
  expect(await runCli(['bench', 'step', '--peers-folder', 'x'], f.ctx)).toBe(2);
  expect(f.err()).toMatch(/--peers-folder has a meaning only with --with-peers/);
});

test('the environment of the peers is the one before our engine sets its own way of waiting', async () => {
  const { env, lines } = setting('good', { FUSED_GRPO_PEERS_PYTHON: fakePython });
  const peers = await findPeers({ env, log: () => undefined });
  env.OMP_WAIT_POLICY = 'PASSIVE'; // as loading the engine does to process.env
  await (await peers.open(['step'], () => ({}))).close();
  expect(lines()[0]).toMatch(/^load plain step \d+ \d+ -$/);
});
