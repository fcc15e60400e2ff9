import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { appendJsonLine, makeFolder, writeFileAtomic, writeFolderAtomic } from '../../lib/trainer/files.js';

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'files-'))));
afterEach(() => rmSync(folder, { recursive: true }));

test('a folder is put in place whole, replacing the old one; a failure leaves the old one', async () => {
  const target = join(folder, 'checkpoint-1');
  await writeFolderAtomic(target, async (part) => writeFileSync(join(part, 'a'), '1'));
  await writeFolderAtomic(target, async (part) => writeFileSync(join(part, 'b'), '2'));
  expect(readdirSync(target)).toEqual(['b']);
  await expect(
    writeFolderAtomic(target, async (part) => {
      writeFileSync(join(part, 'c'), '3');
      throw Object.assign(new Error('write'), { code: 'ENOSPC' });
    }),
  ).rejects.toThrow(/Cannot write .*checkpoint-1: the disk is full/);
  expect(readdirSync(folder)).toEqual(['checkpoint-1']);
  expect(readdirSync(target)).toEqual(['b']);
});

test('files: whole, in place, with a clear error', () => {
  const path = join(folder, 'x.json');
  writeFileAtomic(path, 'one');
  writeFileAtomic(path, 'two');
  expect(readFileSync(path, 'utf8')).toBe('two');
  expect(readdirSync(folder)).toEqual(['x.json']);
  expect(() => writeFileAtomic(join(folder, 'no', 'x'), '')).toThrow(/Cannot write .*no.x/);
  appendJsonLine(join(folder, 'l'), { a: 1 });
  appendJsonLine(join(folder, 'l'), { a: 2 });
  expect(readFileSync(join(folder, 'l'), 'utf8')).toBe('{"a":1}\n{"a":2}\n');
  expect(() => makeFolder(join(path, 'below'))).toThrow(/Cannot create the folder/);
});
