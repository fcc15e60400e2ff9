// docs/ppo.md: its snippets run, its tables are what the code and the benchmark say (scripts/docs.mjs, in losses.test.ts).
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import * as api from '../../lib/index.js';

const root = join(__dirname, '..', '..');
const text = readFileSync(join(root, 'docs/ppo.md'), 'utf8');
const snippets = [...text.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code!);
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ppo-docs-'));
  const rows = Array.from({ length: 64 }, (_, i) => ({ prompt: `${i}+${i % 7}=`, answer: String(i + (i % 7)) }));
  writeFileSync(join(folder, 'sums.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  [0, [1, 2, 3, 4]],
  [1, [2, 2, 2]],
])('snippet %i', async (i, steps) => {
  const said: number[][] = [];
  const given = { ...api, console: { log: (...values: number[]) => said.push(values) } };
  const body = snippets[i]!.replaceAll("'demo/model'", JSON.stringify(demoModel())).replaceAll(
    "'sums.jsonl'",
    JSON.stringify(join(folder, 'sums.jsonl')),
  );
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the documented code, as its reader would run it
  const run = new Function(...Object.keys(given), `return (async () => { ${body} })()`) as (...args: unknown[]) => Promise<unknown>;
  await run(...Object.values(given));
  expect(said.map(([step]) => step)).toEqual(steps);
  expect(said.flat().every((v) => Number.isFinite(v))).toBe(true);
});

test('every option that PPO adds is in the table, and what it leaves out is not one', () => {
  expect(snippets.length).toBe(2);
  for (const name of Object.keys(api.ppoConfigOptions)) if (!(name in api.grpoConfigOptions)) expect(text).toContain(`| \`${name}\` |`);
  const without = /without what belongs to groups \(([^)]*)\) and without `(\w+)`/.exec(text)!;
  const left = [...without[1]!.matchAll(/\w+/g)].map(([name]) => name).concat(without[2]!);
  expect(left.sort()).toEqual(Object.keys(api.grpoConfigOptions).filter((name) => !(name in api.ppoConfigOptions)).sort()); // prettier-ignore
});

test('the benchmark compared equals: tokens, seeds, every algorithm', () => {
  const { algorithms, tokenBudget, larger } = JSON.parse(readFileSync(join(root, 'benchmarks/algorithms.json'), 'utf8')) as {
    algorithms: { name: string; runs: { tokens: number; seed: number }[] }[];
    tokenBudget: number;
    larger: { rows: { stateBytes: number; peakRssBytes: number }[] };
  };
  expect(algorithms.map((a) => a.name)).toEqual(['GRPO', 'RLOO', 'REINFORCE', 'PPO']);
  for (const { runs } of algorithms) {
    expect(runs.map((r) => r.seed)).toEqual([1, 2, 3]);
    for (const { tokens } of runs) expect(Math.abs(tokens / tokenBudget - 1)).toBeLessThan(0.02);
  }
  for (const { stateBytes, peakRssBytes } of larger.rows) expect(peakRssBytes).toBeGreaterThan(stateBytes);
});
