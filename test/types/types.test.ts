// The declarations as consumers compile against them: strict, libraries checked too, every module system.
import { afterAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { blocksOf, withImports } from '../support/blocks.js';

const root = join(__dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'fused-grpo types-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
symlinkSync(root, join(folder, 'node_modules/fused-grpo'));
for (const name of ['@types/node', 'undici-types']) symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));

const CONSUMERS = Object.fromEntries(
  ['usage.ts', 'rewards.ts', 'mistakes.ts'].map((name) => [name, readFileSync(join(__dirname, 'consumer', name), 'utf8')]),
);

/** What tsc says about a project of the given files and options. */
function compile(name: string, options: object, type: 'module' | 'commonjs', files: Record<string, string> = CONSUMERS): string {
  const project = join(folder, name);
  mkdirSync(project);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(project, file), text);
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
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: Object.keys(files) }));
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
  const code = `import { groupAdvantages } from 'fused-grpo';\n// @ts-expect-error nothing is wrong\ngroupAdvantages([1], { numGenerations: 1 });\ngroupAdvantages(1);\n`;
  const said = compile('control', { module: 'node16' }, 'module', { 'control.ts': code });
  expect(said).toContain("Unused '@ts-expect-error' directive");
  expect(said).toContain('Expected 2 arguments');
});

/** JavaScript that strict TypeScript takes for untyped whatever the package declares: functions and variables of its own. */
const UNTYPED = /^(?:async )?function |^let \w+;/m;

/** The page's snippets in which a reward function has no types of its own, as a TypeScript project would copy them. */
function rewardSnippets(page: string): [string, string][] {
  return blocksOf(readFileSync(join(root, page), 'utf8'))
    .filter(
      ({ language, code }) =>
        language === 'ts' || (language === 'js' && /rewardFuncs: \[?\(|perCompletion\(/.test(code) && !UNTYPED.test(code)),
    )
    .map(({ code, directive, line }) => [
      `${page.replace(/\W/g, '_')}_line_${line}.ts`,
      `${/^with (.*)/.exec(directive)?.[1] ?? ''}\n${withImports(code)}`,
    ]);
}

test('the reward functions of the pages compile in a strict project as they stand', () => {
  const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md') && f !== 'LOG.md').map((f) => `docs/${f}`)]; // prettier-ignore
  const snippets = pages.flatMap(rewardSnippets);
  for (const page of ['README_md', 'docs_getting_started_md', 'docs_rewards_md', 'docs_rollouts_md', 'docs_training_md'])
    expect([page, snippets.some(([name]) => name.startsWith(page))]).toEqual([page, true]);
  expect(compile('pages', { module: 'nodenext' }, 'module', Object.fromEntries(snippets))).toBe('');
});
