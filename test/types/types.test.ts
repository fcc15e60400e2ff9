// The declarations as consumers compile against them: strict, libraries checked too, every module system.
import { afterAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'fused-grpo types-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
symlinkSync(root, join(folder, 'node_modules/fused-grpo'));
for (const name of ['@types/node', 'undici-types']) symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));

/** What tsc says about a project of the given files and options. */
function compile(name: string, options: object, type: 'module' | 'commonjs', files = ['usage.ts', 'mistakes.ts']): string {
  const project = join(folder, name);
  mkdirSync(project);
  for (const file of files) copyFileSync(join(__dirname, 'consumer', file), join(project, file));
  writeFileSync(join(project, 'package.json'), JSON.stringify({ type }));
  const compilerOptions = {
    target: 'ES2022',
    lib: ['ES2022'],
    strict: true,
    skipLibCheck: false,
    noEmit: true,
    types: ['node'],
    ...options,
  };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  return spawnSync(process.execPath, [tsc, '-p', project, '--pretty', 'false'], { encoding: 'utf8' }).stdout;
}

test.each<[string, object, 'module' | 'commonjs']>([
  ['ES modules', { module: 'node16', moduleResolution: 'node16' }, 'module'],
  ['CommonJS', { module: 'node16', moduleResolution: 'node16' }, 'commonjs'],
  ['a bundler', { module: 'esnext', moduleResolution: 'bundler' }, 'module'],
  [
    'the strictest',
    { module: 'nodenext', exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, isolatedModules: true },
    'module',
  ],
  ['without the types of Node', { module: 'node16', types: [], lib: ['ES2022', 'DOM', 'ESNext.Disposable'] }, 'module'],
])('%s: ordinary use compiles, mistakes do not', (name, options, type) => {
  expect(compile(name, options, type)).toBe('');
});

test('the test sees a mistake that compiles, and use that does not', () => {
  const project = join(folder, 'control');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{"type":"module"}');
  const code = `import { groupAdvantages } from 'fused-grpo';\n// @ts-expect-error nothing is wrong\ngroupAdvantages([1], { numGenerations: 1 });\ngroupAdvantages(1);\n`;
  writeFileSync(join(project, 'control.ts'), code);
  const compilerOptions = { target: 'ES2022', lib: ['ES2022'], strict: true, noEmit: true, types: ['node'], module: 'node16' };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['control.ts'] }));
  const said = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project], { encoding: 'utf8' }).stdout;
  expect(said).toContain("Unused '@ts-expect-error' directive");
  expect(said).toContain('Expected 2 arguments');
});
