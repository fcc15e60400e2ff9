import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
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
  const frame = pathToFileURL(join(cwd, 'my.mjs')).href;
  const stack = `ReferenceError: x is not defined\n    at f (node:internal:3:1)\n    at ${frame}:7:3`;
  await expect(load({ message: 'x is not defined', stack })).rejects.toThrow(
    '--reward: my.mjs could not be loaded: x is not defined (line 7)',
  );
});

test('a syntax error is placed in the file, which the stack of an import does not tell', async () => {
  writeFileSync(join(cwd, 'broken.mjs'), 'export default () => [\n  1,\n  2;\n');
  const importModule = (path: string) => {
    const run = spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `await import(${JSON.stringify(pathToFileURL(path).href)}).catch((e) => console.log(JSON.stringify({ ...e, name: e.name, message: e.message, stack: e.stack })))`,
      ],
      { encoding: 'utf8' },
    );
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- as it came out of the process
    return Promise.reject(JSON.parse(run.stdout));
  };
  await expect(loadRewards('broken.mjs', { cwd, importModule })).rejects.toThrow(
    /broken\.mjs could not be loaded: Unexpected token ';' \(line 3\)/,
  );
});
