// All static checks, or with --fix what can be mended by itself: node scripts/lint.mjs [--fix]
// Prints one line per check and, at the end, `N passed, N failed`.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fetchSet, root } from './deps.mjs';

const require = createRequire(import.meta.url);
const fix = process.argv.includes('--fix');
const bin = (name, file) => join(dirname(require.resolve(`${name}/package.json`)), file);
const node = (script, ...args) => [process.execPath, [script, ...args]];

function nativeFiles(folder = join(root, 'native')) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? nativeFiles(path) : /\.(h|cc|cu|cuh)$/.test(entry.name) ? [path] : [];
  });
}

/** The machine's own clang-format may be of another version and format differently: pip's pinned one decides. */
function clangFormat() {
  const folder = fetchSet('clang-format');
  const binary = [join(folder, 'clang_format/data/bin/clang-format'), join(folder, 'bin/clang-format')].find((f) => existsSync(f));
  return [binary, [...(fix ? ['-i'] : ['--dry-run', '--Werror', '--ferror-limit=3']), ...nativeFiles()]];
}

const CHECKS = {
  eslint: () => node(bin('eslint', 'bin/eslint.js'), ...(fix ? ['--fix'] : []), '--max-warnings=0', '.'),
  prettier: () =>
    node(
      bin('prettier', 'bin/prettier.cjs'),
      fix ? '--write' : '--check',
      '--log-level=warn',
      '{lib,test,benchmarks,scripts,examples}/**/*.{ts,mjs,cjs}',
      '*.{mjs,cjs}',
      '--no-error-on-unmatched-pattern',
    ),
  'clang-format': clangFormat,
  'types of lib/': () => node(bin('typescript', 'bin/tsc'), '--noEmit', '-p', 'tsconfig.json'),
  'types of tests': () => node(bin('typescript', 'bin/tsc'), '--noEmit', '-p', 'tsconfig.test.json'),
  layers: () => node(join(root, 'scripts/check-layers.mjs')),
};

function runCheck(make) {
  return new Promise((resolve) => {
    let command;
    try {
      command = make();
    } catch (error) {
      return resolve({ ok: false, output: error.message });
    }
    const child = spawn(...command, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', (error) => resolve({ ok: false, output: String(error) }));
    child.on('close', (code) => resolve({ ok: code === 0, output }));
  });
}

let failed = 0;
// One after the other: two at a time gain nothing on the two cores that CI has, and garble the output.
for (const [name, make] of Object.entries(CHECKS)) {
  const { ok, output } = await runCheck(make);
  if (!ok) ++failed;
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name}`);
  if (!ok)
    console.log(
      output
        .trim()
        .split('\n')
        .slice(0, 60)
        .map((l) => `       ${l}`)
        .join('\n'),
    );
}
console.log(`lint: ${Object.keys(CHECKS).length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
