import { expect, test } from '@jest/globals';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadRewards } from '../../lib/cli/rewards.js';

const cwd = mkdtempSync(join(tmpdir(), 'fused-grpo-'));
writeFileSync(join(cwd, 'my.mjs'), '');
const load = (exports: Record<string, unknown>) =>
  // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- modules may throw anything
  loadRewards('my.mjs', { cwd, importModule: async () => ('stack' in exports ? Promise.reject(exports) : exports) });
const names = async (exports: Record<string, unknown>) => (await load(exports)).map((fn) => fn.name);
const plain = () => [1];

test('a default function, named after the file when it has no name of its own', async () => {
  expect(await names({ default: plain })).toEqual(['plain']);
  expect(await names({ default: Object.defineProperty(() => [1], 'name', { value: 'default' }) })).toEqual(['my']);
});

test('an array, an object, named exports', async () => {
  expect(await names({ default: [plain, (() => () => [2])()] })).toEqual(['plain', 'my1']);
  expect(await names({ default: { right: plain, text: 'no function' } })).toEqual(['right']);
  expect(await names({ correct: plain, format: plain, LIMIT: 3 })).toEqual(['correct', 'format']);
});

test('a default export goes before helpers that are exported too', async () =>
  expect(await names({ default: plain, helper: () => 0 })).toEqual(['plain']));

test('a renamed function still gets its argument', async () => {
  const [fn] = await load({ echo: (x: unknown) => x });
  expect(fn!('hello')).toBe('hello');
});

test('mistakes name the file', async () => {
  await expect(load({ LIMIT: 3 })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARG',
    message: expect.stringContaining('my.mjs exports no reward function'),
  });
  await expect(load({ default: [plain, 3] })).rejects.toThrow('my.mjs: element 1 of the default export is not a function');
  await expect(load({ message: 'Unexpected token', stack: 'file:///x/my.mjs:7\nSyntaxError' })).rejects.toThrow(
    '--reward: my.mjs could not be loaded: Unexpected token (line 7 of my.mjs)',
  );
});
