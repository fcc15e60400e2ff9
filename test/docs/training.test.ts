// docs/training.md: its snippets run, and it names the options that there are.
import { afterAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import * as api from '../../lib/index.js';

const text = readFileSync(join(__dirname, '../../docs/training.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'training-docs-'));
afterAll(() => rmSync(folder, { recursive: true }));
const rows = Array.from({ length: 64 }, (_, i) => ({ prompt: `${i}+${i % 7}=`, answer: String(i + (i % 7)) }));
writeFileSync(join(folder, 'sums.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));

const snippets = [...text.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code!);

test.each(snippets.map((code, i) => [i, code] as const))('snippet %i', async (_i, code) => {
  const given = { ...api, console: { log: (...values: unknown[]) => said.push(values) } };
  const said: unknown[][] = [];
  const body = code
    .replaceAll("'demo/model'", JSON.stringify(demoModel()))
    .replaceAll("'sums.jsonl'", JSON.stringify(join(folder, 'sums.jsonl')));
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the documented code, as its reader would run it
  const run = new Function(...Object.keys(given), `return (async () => { ${body} })()`) as (...args: unknown[]) => Promise<unknown>;
  await run(...Object.values(given));
  if (code.includes('console.log')) {
    expect(said.map(([step]) => step)).toEqual([2, 4]);
    expect(said.flat().every((v) => Number.isFinite(v))).toBe(true);
  }
});

test('there are snippets, and every option named in the tables exists', () => {
  expect(snippets.length).toBe(2);
  const named = [...text.matchAll(/^\| `([^|]*)\|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/([a-z]+[A-Z][A-Za-z]*)/g)].map(([, name]) => name!),
  );
  const options = named.filter((name) => !['outputDir'].includes(name));
  expect(options.length).toBeGreaterThan(7);
  for (const name of options) expect([name, name in api.grpoConfigOptions]).toEqual([name, true]);
});
