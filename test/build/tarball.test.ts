// What is published: exactly the files that building and running need, and entry points that every resolver understands.
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { execute, pack, plainEnv, project } from './installed.js';
import { root, temporary } from './scripts.js';

jest.setTimeout(120_000);

const folder = temporary();
let tarball: string;
let files: string[];
beforeAll(() => void ({ tarball, files } = pack(folder)));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tracked = execute('git', ['ls-files'], { cwd: root }).out.trim().split('\n');
const under = (...folders: string[]) => tracked.filter((f) => folders.some((name) => f.startsWith(`${name}/`)));

/** The scripts that these import, directly or not. */
function imported(names: string[], found = new Set<string>()): string[] {
  for (const name of names.filter((n) => !found.has(n))) {
    found.add(name);
    const text = readFileSync(join(root, name), 'utf8');
    const imports = [...text.matchAll(/(?:from |import\(|require\(|here\()'(\.[^']+)'/g)].map(([, path]) =>
      relative(root, join(root, dirname(name), path!)),
    );
    imported(
      imports.filter((n) => n.startsWith('scripts/')),
      found,
    );
  }
  return [...found];
}

test('the tarball holds what building and running need, and nothing of the workshop', () => {
  const compiled = tracked.filter((f) => /^lib\/.*\.ts$/.test(f)).map((f) => f.replace(/^lib\/(.*)\.ts$/, 'dist/cjs/$1'));
  // identity.mjs is called by binding.gyp, checks.mjs by doctor
  const scripts = imported(
    ['cli', 'build', 'build-capi', 'checks', 'identity'].map((n) => `scripts/${n}.mjs`).concat('scripts/addons/index.cjs'),
  );
  const expected = [
    ...['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'binding.gyp', 'CMakeLists.txt', 'dist/index.mjs', 'dist/index.d.mts'],
    ...compiled.flatMap((f) => [`${f}.js`, `${f}.d.ts`]),
    ...under('native', 'examples', 'benchmarks/peers', 'demo/model', 'docs/plots', 'scripts/nodedir'),
    ...tracked.filter((f) => /^docs\/[^/]*\.md$/.test(f) && f !== 'docs/LOG.md'),
    ...scripts,
  ];
  expect(files.filter((f) => !f.startsWith('prebuilds/'))).toEqual([...new Set(expected)].sort());
});

test('every file that the manifest and the README name is there', () => {
  const { main, types, bin, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, unknown>;
  const named = JSON.stringify([main, types, bin, exports])
    .match(/\.\/[^"]+/g)!
    .map((f) => f.slice(2));
  expect(named.length).toBeGreaterThan(6);
  for (const name of named) expect([name, files.includes(name)]).toEqual([name, true]);
  const linked = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/\]\(((?:docs|examples)\/[^)#]+)\)/g)].map((m) => m[1]!);
  for (const name of linked.filter((n) => n !== 'docs/LOG.md'))
    expect([name, files.some((f) => f === name || f.startsWith(`${name}/`))]).toEqual([name, true]);
});

test('publint has nothing to say, not even a suggestion', () => {
  const { code, out } = execute(process.execPath, [join(root, 'node_modules/publint/src/cli.js'), tarball, '--strict'], {
    env: plainEnv(),
  });
  expect(out).toContain('All good!');
  expect(code).toBe(0);
});

test('types are right for every kind of resolution (attw)', () => {
  const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
  const { code, out } = execute(process.execPath, [attw, tarball, '--format', 'json'], { env: plainEnv() });
  const { analysis } = JSON.parse(out) as { analysis: { problems: unknown[]; entrypoints: Record<string, { resolutions: object }> } };
  expect([code, analysis.problems]).toEqual([0, []]);
  expect(Object.keys(analysis.entrypoints['.']!.resolutions).sort()).toEqual(['bundler', 'node10', 'node16-cjs', 'node16-esm']);
});

test('the declarations hold in strict projects of either kind, without skipLibCheck', () => {
  const { app } = project({ built: false });
  const use = `trainer: GRPOTrainer): Promise<number> {
    for await (const { metrics } of trainer) return metrics.reward;
    try { return groupAdvantages([1, 0], { numGenerations: 2 }).advantages.length; } catch (e) { if (e instanceof FusedGrpoError) return e.code.length; throw e; }
  }\n`;
  writeFileSync(
    join(app, 'a.mts'),
    `import { FusedGrpoError, groupAdvantages, type GRPOTrainer } from 'fused-grpo';\nexport async function f(${use}`,
  );
  writeFileSync(
    join(app, 'b.cts'),
    `import fused = require('fused-grpo');\nconst { FusedGrpoError, groupAdvantages } = fused;\ntype GRPOTrainer = fused.GRPOTrainer;\nexport async function f(${use}`,
  );
  writeFileSync(join(app, 'wrong.mts'), "import { noSuchThing } from 'fused-grpo';\nexport default noSuchThing;\n");
  const check = (...args: string[]) =>
    execute(
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '--noEmit', '--strict', '--target', 'es2022', '--types', 'node', ...args],
      { cwd: app },
    );
  expect(check('--module', 'node16', 'a.mts', 'b.cts').out).toBe('');
  expect(check('--module', 'esnext', '--moduleResolution', 'bundler', 'a.mts').out).toBe('');
  expect(check('--module', 'node16', 'wrong.mts').out).toContain("no exported member 'noSuchThing'");
  expect(existsSync(join(app, 'a.mjs'))).toBe(false);
  rmSync(dirname(app), { recursive: true, force: true });
});
