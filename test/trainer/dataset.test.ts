import { afterAll, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDataset, type Row } from '../../lib/trainer/dataset.js';
import { checkPromptRow, checkSFTRow } from '../../lib/trainer/rows.js';

const folder = mkdtempSync(join(tmpdir(), 'dataset-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const rowsOf = (n: number): Row[] => Array.from({ length: n }, (_, i) => ({ prompt: `p${i}` }));
const open = (dataset: Parameters<typeof openDataset>[0], seed: number | null = null, lazy = false) =>
  openDataset(dataset, { seed, lazy, check: checkPromptRow });

test('every row comes once an epoch, in another order each epoch, the same for the same seed', async () => {
  const source = await open(rowsOf(50), 1);
  const first = (await source.take(50)).map((r) => r.prompt);
  const second = (await source.take(50)).map((r) => r.prompt);
  expect(new Set(first).size).toBe(50);
  expect(new Set(second).size).toBe(50);
  expect(second).not.toEqual(first);
  expect((await (await open(rowsOf(50), 1)).take(100)).map((r) => r.prompt)).toEqual([...first, ...second]);
  expect((await (await open(rowsOf(50), 2)).take(50)).map((r) => r.prompt)).not.toEqual(first);
});

test('a cursor continues in the middle of an epoch', async () => {
  const all = await (await open(rowsOf(7), 3)).take(20);
  for (let k = 0; k < 20; ++k) {
    const before = await open(rowsOf(7), 3);
    await before.take(k);
    const after = await open(rowsOf(7), 3);
    await after.seek({ ...before.cursor });
    expect(await after.take(20 - k)).toEqual(all.slice(k));
  }
});

test('a lazy stream is read as needed, again for the next epoch, and seeks', async () => {
  let reads = 0;
  const stream = {
    async *[Symbol.asyncIterator]() {
      for (const row of rowsOf(3)) {
        ++reads;
        yield row;
      }
    },
  };
  const source = await open(stream, null, true);
  expect((await source.take(2)).map((r) => r.prompt)).toEqual(['p0', 'p1']);
  expect(reads).toBe(2);
  expect((await source.take(2)).map((r) => r.prompt)).toEqual(['p2', 'p0']);
  const again = await open(stream, null, true);
  await again.seek({ ...source.cursor });
  expect((await again.take(1))[0]!.prompt).toBe('p1');
});

test.each([
  ['bad json', '{"prompt":"a"}\n\n{"prompt":}\n', /bad json:3: not valid JSON/],
  ['no object', '[1]\n', /no object:1: expected a JSON object/],
  ['no prompt', '{"prompt":"a"}\n{"question":"b"}', /no prompt:2: there is no "prompt"; the row has question/],
  ['wrong prompt', '{"prompt":7}', /wrong prompt:1: "prompt" must be a string or a list/],
  ['no rows', '\n  \n', /is empty/],
])('a file with %s is refused by line', async (name, text, message) => {
  await expect(open(file(name, text))).rejects.toThrow(message);
});

test('files that cannot be read and values that are no data set', async () => {
  await expect(open(join(folder, 'none.jsonl'))).rejects.toThrow(/Cannot read the data set .*none.jsonl/);
  await expect(open(folder)).rejects.toThrow(/Cannot read the data set/);
  await expect(open(7 as never)).rejects.toThrow(/Expected the path of a .jsonl, .json or .parquet file.* for trainDataset but received 7/);
  await expect(open([])).rejects.toThrow(/empty/);
  await expect(open([{ prompt: 'a' }, { prompt: '' }])).rejects.toThrow(/row 1: "prompt" is empty/);
  const stream = await open((async function* () {})(), null, true);
  await expect(stream.take(1)).rejects.toThrow(/empty/);
});

test('windows line ends and a byte order mark are no matter', async () => {
  const source = await open(file('crlf', '\uFEFF{"prompt":"a"}\r\n{"prompt":"b"}\r\n'));
  expect(await source.take(2)).toEqual([{ prompt: 'a' }, { prompt: 'b' }]);
});

test('SFT rows', () => {
  const good = [
    { text: 'a' },
    { prompt: 'a', completion: 'b' },
    { prompt: '', completion: 'b' },
    { messages: [{ role: 'user', content: 'a' }] },
  ];
  for (const row of good) expect(() => checkSFTRow(row, 'row 0')).not.toThrow();
  for (const row of [{}, { text: '' }, { prompt: 'a' }, { prompt: 'a', completion: '' }, { messages: [] }])
    expect(() => checkSFTRow(row as Row, 'row 0')).toThrow(/row 0: expected/);
});
