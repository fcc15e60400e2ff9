import { expect, test } from '@jest/globals';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { filled, fromBfloat16, logpGradient, relativeError, toBfloat16 } from '../../lib/bench/data.js';
import { measure, summary, type Row } from '../../lib/bench/measure.js';
import { cells, compare, html, markdown, readResults, resultsOf, type Results } from '../../lib/bench/output.js';
import { lossCase } from '../../lib/bench/loss.js';
import { linearCase } from '../../lib/bench/linear.js';
import { advantagesCase } from '../../lib/bench/small.js';
import { runCli } from '../../lib/cli/main.js';
import { packageRoot } from '../../lib/native.js';
import { fake } from '../cli/fake.js';

const demo = join(packageRoot, 'demo', 'model');
const context = { rounds: 1 };

test('rounds are interleaved, the first is thrown away, an op may time itself', async () => {
  const calls: string[] = [];
  const rows = await measure(
    { base: () => (calls.push('base'), 2), other: async () => (calls.push('other'), 3) },
    { rounds: 3, before: () => calls.push('-') },
  );
  expect(calls.join(' ')).toBe(Array(4).fill('- base - other').join(' '));
  expect(rows.map((r) => [r.name, r.seconds.median, r.perBaseline, r.seconds.rounds])).toEqual([
    ['base', 2, 1, 3],
    ['other', 3, 1.5, 3],
  ]);
  expect(summary([5, 1, 3])).toEqual({ median: 3, min: 1, spread: 2, rounds: 3 });
});

test('an aborted signal ends a measurement between ops', async () => {
  const controller = new AbortController();
  const run = measure({ a: () => controller.abort(new Error('enough')), b: () => 1 }, { rounds: 9, signal: controller.signal });
  await expect(run).rejects.toThrow('enough');
});

test('made-up data and exact answers', () => {
  expect(fromBfloat16(toBfloat16(1.00390625))).toBe(1); // halfway: to even
  expect(fromBfloat16(toBfloat16(1.01171875))).toBe(1.015625);
  const x = filled(2_500_000, 'float32', 3);
  expect(x[0]).toBe(x[1_000_003]);
  expect(x.slice(-1000).every((v) => v !== 0 && Math.abs(v) <= 3)).toBe(true);
  expect(Array.from(logpGradient((i) => [1000, 1000][i]!, 2, 1))).toEqual([0.5, -0.5]);
  // A target that has nearly all of the mass: softmax - 1 would be 0.
  expect(logpGradient((i) => (i === 0 ? 60 : 0), 3, 0)[0]! / (-2 * Math.exp(-60))).toBeCloseTo(1, 12);
  expect(relativeError((i) => [3, 4][i]!, Float64Array.of(3, 5))).toBeCloseTo(1 / Math.sqrt(34), 12);
});

test.each<['token' | 'sequence', number, 'float32' | 'bfloat16', number]>([
  ['token', 1, 'float32', 1e-6],
  ['sequence', 1, 'float32', 1e-6],
  ['token', 0.5, 'float32', 1e-6],
  ['sequence', 0.5, 'bfloat16', 1e-2],
])('the loss case checks itself against fp64: %s level, %d selected, %s', async (level, selected, dtype, bound) => {
  const result = await lossCase({ tokens: 12, vocab: 1001, dtype, selected, level }, context);
  expect(result.rows.map((r) => r.name)).toContain('unfused libtorch');
  const { error } = result.rows[1]!;
  expect(error).toBeGreaterThan(0);
  expect(error).toBeLessThan(bound);
});

test('linear and advantages check themselves', async () => {
  const linear = await linearCase({ tokens: 6, width: 16, vocab: 301, dtype: 'float32', workspaceBytes: 4096 }, context);
  expect(linear.rows[1]!.error).toBeLessThan(1e-5);
  const wide = await linearCase({ tokens: 6, width: 576, vocab: 301, dtype: 'float32', workspaceBytes: 4096 }, context);
  expect(wide.rows[1]!.error).toBeLessThan(1e-5);
  const advantages = await advantagesCase(64, 8, context);
  expect(advantages.rows[1]!.error).toBeLessThan(1e-6);
});

function made(ratio: number, spread = 0.01): Results {
  const row = (name: string, perBaseline: number): Row => ({ name, perBaseline, seconds: { median: 1, min: 1, spread, rounds: 5 } });
  return { ...resultsOf([]), cases: [{ case: 'loss', label: '<T>', baseline: 'copy', rows: [row('copy', 1), row('fused', ratio)] }] };
}

test('comparison says what moved beyond noise, and which way', () => {
  expect(compare(made(2), made(2.05))).toEqual([]);
  expect(compare(made(2), made(3))).toEqual(['loss: <T>: fused: 2.00 -> 3.00 x baseline, 50 % slower']);
  expect(compare(made(2), made(1))[0]).toMatch(/50 % faster$/);
  expect(compare(made(2, 0.2), made(3, 0.2))).toEqual([]);
});

test('documents hold every number and no markup of a label', () => {
  const results = made(2);
  for (const cell of cells(results.cases[0]!.rows[1]!)) expect(markdown(results)).toContain(cell);
  expect(html(results)).toContain('&lt;T&gt;');
  expect(html(results)).not.toContain('<T>');
  expect(html(results)).not.toMatch(/https?:/);
});

test('benchmarks/RESULTS.md is what results.json says', () => {
  const file = (name: string) => join(packageRoot, 'benchmarks', name);
  expect(readFileSync(file('RESULTS.md'), 'utf8')).toBe(markdown(readResults(file('results.json'))));
});

test('bench step prints the shape of a step as JSON', async () => {
  const f = fake();
  const shape = ['--prompts', '2', '--num-generations', '3', '--prompt-length', '4', '--max-completion-length', '5', '--beta', '0.1'];
  expect(await runCli(['bench', 'step', '--model', demo, ...shape, '--dtype', 'float32', '--steps', '2', '--json'], f.ctx)).toBe(0);
  const r = JSON.parse(f.out());
  expect(r).toMatchObject({ generatedTokens: 2 * 3 * 5, steps: 2, dtype: 'float32' });
  expect(Object.keys(r.phases)).toEqual(['generate', 'reward', 'score', 'train', 'optimizer']);
  expect(r.stepSeconds.min).toBeGreaterThan(0);
  expect(r.stepSeconds.median).toBeGreaterThanOrEqual(r.stepSeconds.min);
  const parts = Object.values(r.phases as Record<string, number>).reduce((a, b) => a + b, 0);
  expect(parts).toBeLessThan(r.stepSeconds.median * 1.5);
  expect(r.phases.score).toBeGreaterThan(1e-4); // the reference was scored
  expect(r.peakRssBytes).toBeGreaterThan(1e7);
});

test('chosen cases are run and written; two runs can be compared', async () => {
  const f = fake();
  expect(await runCli(['bench', 'advantages', '--quick', '--rounds', '1', '--output', 'out'], f.ctx)).toBe(0);
  expect(f.out()).toContain('advantages: 8192 rewards in groups of 8');
  for (const file of ['results.json', 'results.md', 'index.html']) expect(existsSync(join(f.folder, 'out', file))).toBe(true);
  const results = JSON.parse(readFileSync(join(f.folder, 'out', 'results.json'), 'utf8')) as Results;
  expect(results.cases).toHaveLength(1);
  results.cases[0]!.rows[1]!.perBaseline *= 100;
  writeFileSync(join(f.folder, 'after.json'), JSON.stringify(results));
  expect(await runCli(['bench', 'compare', 'out/results.json', 'after.json'], f.ctx)).toBe(0);
  expect(f.out()).toMatch(/groupAdvantages: .* slower/);
});

test.each([
  [['bench', 'los'], /Unknown benchmark 'los'; did you mean 'loss'\?/],
  [['bench', 'step', '--model', demo, '--quick'], /--quick belongs to the suite/],
  [['bench', 'loss', 'compare'], /Unknown benchmark 'compare'/],
  [['bench', 'loss', '--prompts', '3'], /--prompts belongs to 'bench step --model DIR'/],
  [['bench', 'step', '--model', 'nowhere'], /nowhere/],
  [['bench', 'step', '--model', demo, '--prompt-length', '4000'], /do not fit the model's context/],
  [['bench', 'step', '--model', demo, '--num-generations', '1'], /num-generations/],
  [['bench', 'compare', 'one.json'], /two results.json/],
  [['bench', 'compare', 'prompts.jsonl', 'prompts.jsonl'], /does not hold results/],
  [['bench', 'compare', 'none.json', 'none.json'], /none.json cannot be read/],
])('bad input: %j', async (argv, message) => {
  const f = fake();
  expect(await runCli(argv, f.ctx)).toBe(2);
  expect(f.err()).toMatch(message);
  expect(f.out()).toBe('');
});

test('an output that is a file is refused before anything is measured', async () => {
  const f = fake();
  expect(await runCli(['bench', 'advantages', '--quick', '--output', 'reward.mjs'], f.ctx)).toBe(1);
  expect(f.err()).toMatch(/Cannot create the folder .*reward\.mjs/);
  expect(f.out()).toBe('');
});
