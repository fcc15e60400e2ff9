// docs/rollouts.md: its snippets run, and its tables name what the types have.
import { afterAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import * as api from '../../lib/index.js';

const root = join(__dirname, '../..');
const text = readFileSync(join(root, 'docs/rollouts.md'), 'utf8');
const types = readFileSync(join(root, 'lib/trainer/rollout-function.ts'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'rollouts-docs-'));
afterAll(() => rmSync(folder, { recursive: true }));
const rows = Array.from({ length: 64 }, (_, i) => ({ prompt: `${i}+${i % 7}=`, answer: String(i + (i % 7)) }));
writeFileSync(join(folder, 'sums.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));

/** Runs the documented code as its reader would; what it prints. */
async function said(code: string): Promise<unknown[][]> {
  const lines: unknown[][] = [];
  const given = { ...api, console: { log: (...values: unknown[]) => lines.push(values) } };
  const body = code.replaceAll("'demo/model'", JSON.stringify(demoModel())).replaceAll("'sums.jsonl'", JSON.stringify(join(folder, 'sums.jsonl')));
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the documented code
  const run = new Function(...Object.keys(given), `return (async () => { ${body} })()`) as (...args: unknown[]) => Promise<unknown>;
  await run(...Object.values(given));
  return lines;
} // prettier-ignore

const snippets = [...text.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code!);

test('the function and its weights', async () => {
  expect(await said(snippets[0]!)).toEqual([0, 1, 2].map((version) => ['the server has version', version]));
});

test('a tool between', async () => {
  const lines = await said(snippets[1]!);
  expect(lines.map(([step]) => step)).toEqual([1, 2]);
  expect(lines.every(([, length]) => (length as number) > 2)).toBe(true);
});

test('openAICompatible: the trainer that it shows can be made, and so can the rollout function that restarts llama.cpp', async () => {
  expect(await said(`${snippets[2]!}; served.dispose(); console.log(served.config.maxStaleness)`)).toEqual([[2]]);
  const own =
    'const done = []; const execFileSync = () => done.push(1), stopServer = () => done.push(2), startServer = () => done.push(3);';
  const call = "await restart({ folder: 'x' }); console.log(done, rollout.syncWeights.every)";
  expect(await said(`${own} ${snippets[3]!}; ${call}`)).toEqual([[[1, 2, 3], 4]]);
  expect(snippets).toHaveLength(4);
});

const [ofFunctions, ofServers] = text.split('## Inference servers') as [string, string];

test("openAICompatible's options are all explained, with their defaults", () => {
  const options = readFileSync(join(root, 'lib/rollouts/options.ts'), 'utf8');
  const body = /export interface OpenAICompatibleOptions {\n([\s\S]*?)\n}/.exec(options)![1]!;
  const fields = [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, field]) => field!);
  const rows = [...ofServers.split('What it does')[0]!.matchAll(/^\| (`[^|]*) \|([^|]*)\|/gm)];
  expect(rows.flatMap(([, cell]) => [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!)).sort()).toEqual(fields.sort());
  for (const [, cell, defaults] of rows) {
    const numbers = [...defaults!.matchAll(/[\d.]+/g)].map(([n]) => n);
    const names = [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!);
    for (const [i, n] of numbers.entries())
      if (names.length >= numbers.length && names[i] !== 'completionsPerRequest') expect(options).toMatch(new RegExp(`${names[i]}: .*\\b${n.replace('.', '\\.')}\\b`));
  }
}); // prettier-ignore

test('the tables name the fields of the types, all of them', () => {
  const documented = [...ofFunctions.matchAll(/^\| (`[^|]*) \|/gm)].flatMap(([, cell]) => [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
  const fields = (name: string) => {
    const body = new RegExp(`export interface ${name} {\n([\\s\\S]*?)\n}`).exec(types)![1]!;
    return [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, field]) => field!);
  };
  expect(documented.sort()).toEqual([...fields('RolloutRequest'), ...fields('RolloutCompletion')].sort());
  for (const name of [...fields('RolloutSampling'), ...fields('SyncWeights'), ...fields('SyncedWeights')]) expect(text).toContain(name);
}); // prettier-ignore
