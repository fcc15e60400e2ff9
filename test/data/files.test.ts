import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkMapping } from '../../lib/data/columns.js';
import { fileRows } from '../../lib/data/files.js';
import { plainValue } from '../../lib/data/parquet.js';
import type { Row } from '../../lib/data/types.js';
import { openDataset, type OpenOptions } from '../../lib/trainer/dataset.js';
import { checkPromptRow } from '../../lib/trainer/rows.js';

const folder = mkdtempSync(join(tmpdir(), 'data files-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const open = (dataset: string | Row[], more: Partial<OpenOptions> = {}) =>
  openDataset(dataset, { seed: null, lazy: false, check: checkPromptRow, ...more });
const rowsIn = async (path: string): Promise<Row[]> => {
  const rows: Row[] = [];
  for await (const { row } of fileRows(path)) rows.push(row);
  return rows;
};

const people = Array.from({ length: 5000 }, (_, i) => ({ question: `What is ${i}?`, answer: i }));
const parquet = join(folder, 'rows.parquet');

beforeAll(async () => {
  const { parquetWriteFile } = await import('hyparquet-writer');
  parquetWriteFile({
    filename: parquet,
    rowGroupSize: 1500,
    columnData: [
      { name: 'question', data: people.map((p) => p.question), type: 'STRING' },
      { name: 'answer', data: people.map((p) => BigInt(p.answer)), type: 'INT64' },
      { name: 'big', data: people.map(() => 2n ** 60n), type: 'INT64' },
      { name: 'when', data: people.map(() => new Date('2024-02-29T12:30:00Z')), type: 'TIMESTAMP' },
      { name: 'score', data: people.map((p) => (p.answer % 2 ? p.answer / 2 : null)), type: 'DOUBLE', nullable: true },
      { name: 'meta', data: people.map((p) => ({ tags: ['a', p.answer] })), type: 'JSON' },
    ],
  });
});

test('a .parquet file gives what the same rows as JSON would: numbers, strings, nested values', async () => {
  const rows = await rowsIn(parquet);
  expect(rows).toHaveLength(5000);
  expect(rows[4097]).toEqual({
    question: 'What is 4097?',
    answer: 4097,
    big: '1152921504606846976',
    when: '2024-02-29T12:30:00.000Z',
    score: 2048.5,
    meta: { tags: ['a', 4097] },
  });
  expect(rows[4096]!.score).toBeNull();
  expect(JSON.parse(JSON.stringify(rows[7]))).toEqual(rows[7]);
});

test('files written by pyarrow: every compression, dates, lists, structs, maps, decimals, dictionaries', async () => {
  for (const codec of ['none', 'snappy', 'gzip', 'zstd', 'brotli', 'lz4']) {
    const path = join(__dirname, '..', 'golden', 'data', `pyarrow-${codec}.parquet`);
    const expected = JSON.parse(readFileSync(join(__dirname, '..', 'golden', 'data', 'pyarrow.json'), 'utf8')) as Row[];
    expect(await rowsIn(path)).toEqual(expected);
  }
});

test('values of parquet that JSON does not have', () => {
  expect(plainValue(2n ** 53n - 1n)).toBe(2 ** 53 - 1);
  expect(plainValue(-(2n ** 53n))).toBe(-(2 ** 53));
  expect(plainValue(2n ** 53n + 1n)).toBe('9007199254740993');
  expect(plainValue([undefined, new Uint8Array([1, 2, 255]), Float32Array.of(0.5), BigInt64Array.of(3n)])).toEqual([
    null,
    'AQL/',
    [0.5],
    [3],
  ]);
  expect(plainValue(new Date(NaN))).toBeNull();
  expect(plainValue({ a: { b: 1n } })).toEqual({ a: { b: 1 } });
});

test('a .json file is an array of objects', async () => {
  expect(await rowsIn(file('rows.json', '\uFEFF[{"prompt":"a"},{"prompt":"b","n":[1]}]'))).toEqual([
    { prompt: 'a' },
    { prompt: 'b', n: [1] },
  ]);
});

test.each([
  ['object.json', '{"rows":[]}', /object\.json: a \.json data set is an array of objects/],
  ['lines.json', '{"prompt":"a"}\n{"prompt":"b"}\n', /lines\.json: not valid JSON .* name it \.jsonl/],
  ['number.json', '[{"prompt":"a"},3]', /number\.json: row 1: expected a JSON object/],
  ['missing.json', '[{"prompt":"a"},{"question":"b"}]', /missing\.json: row 1: there is no "prompt"; the row has question/],
  ['nothing.json', '[]', /The data set .*nothing\.json is empty/],
  ['text.parquet', 'PAR1 this is not', /text\.parquet is not a parquet file, or it is damaged/],
  ['list.jsonl', '{"prompt":"a"}\n[1]\n', /list\.jsonl:2: expected a JSON object/],
])('%s: the message names file and row', async (name, text, message) => {
  await expect(open(file(name, text))).rejects.toMatchObject({ code: 'ERR_DATA', message: expect.stringMatching(message) });
});

test('a file that is not there, and a parquet file that was cut off', async () => {
  for (const name of ['none.jsonl', 'none.json', 'none.parquet'])
    await expect(open(join(folder, name))).rejects.toMatchObject({
      code: 'ERR_DATA',
      message: expect.stringMatching(/Cannot read the data set .*none/),
    });
  const cut = join(folder, 'cut.parquet');
  writeFileSync(cut, readFileSync(parquet));
  truncateSync(cut, 20_000);
  await expect(open(cut)).rejects.toMatchObject({
    code: 'ERR_DATA',
    message: expect.stringMatching(/cut\.parquet is not a parquet file, or/),
  });
});

test('columnMapping renames columns of files and arrays, all at once, and reaches into objects', async () => {
  const source = await open(parquet, { columnMapping: { prompt: 'question', solution: 'answer' } });
  const [row] = await source.take(1);
  expect(row).toMatchObject({ prompt: 'What is 0?', solution: 0 });
  expect(row).not.toHaveProperty('question');
  const swapped = await open([{ prompt: 'a', other: 'b' }], { columnMapping: { prompt: 'other', other: 'prompt' } });
  expect(await swapped.take(1)).toEqual([{ prompt: 'b', other: 'a' }]);
  const nested = await open([{ q: 'a', reward: { truth: 4 } }], { columnMapping: { prompt: 'q', answer: 'reward.truth' } });
  expect(await nested.take(1)).toEqual([{ prompt: 'a', answer: 4, reward: { truth: 4 } }]);
});

test('a mapping that does not fit names row, column and what there is', async () => {
  const bad = open(file('mapped.jsonl', '{"question":"a"}\n{"q":"b"}\n'), { columnMapping: { prompt: 'question' } });
  await expect(bad).rejects.toMatchObject({
    code: 'ERR_DATA',
    message: expect.stringMatching(/mapped\.jsonl:2: there is no column "question" \(columnMapping: prompt <- question\); the row has q/),
  });
  const wrong = open(file('wrong.json', '[{"question":"a","n":1},{"question":7,"n":2}]'), { columnMapping: { prompt: 'question' } });
  await expect(wrong).rejects.toThrow(/wrong\.json: row 1 \(prompt <- question\): "prompt" must be a string/);
  expect(() => checkMapping({ prompt: 3 })).toThrow(/columnMapping\.prompt/);
  expect(() => checkMapping(['prompt'])).toThrow(/columnMapping/);
});

test('a large file that is not shuffled is streamed: what is not needed is not read, and epochs and resuming work', async () => {
  const lines = people.map((p) => JSON.stringify({ prompt: p.question })).join('\n');
  const path = file('large.jsonl', lines + '\nthis line is never reached');
  const lazy = { lazy: true, streamBytes: 1000 };
  const source = await open(path, lazy);
  expect(source.length).toBeUndefined();
  expect((await source.take(3)).map((r) => r.prompt)).toEqual(['What is 0?', 'What is 1?', 'What is 2?']);
  const resumed = await open(path, lazy);
  await resumed.seek({ epoch: 0, index: 3 });
  expect((await resumed.take(1))[0]!.prompt).toBe('What is 3?');
  await expect(open(path, { lazy: true, streamBytes: 1e9 })).rejects.toThrow(/large\.jsonl:5001/);
  await expect(open(path, { ...lazy, seed: 1 })).rejects.toThrow(/large\.jsonl:5001/);
  const small = await open(file('two.jsonl', '{"prompt":"a"}\n{"prompt":"b"}'), { lazy: true, streamBytes: 1 });
  expect((await small.take(5)).map((r) => r.prompt)).toEqual(['a', 'b', 'a', 'b', 'a']);
  expect(small.cursor).toEqual({ epoch: 2, index: 1 });
});
