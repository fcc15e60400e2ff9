// The header: plain C99 and C++17 without a warning, nothing else exported, and no silent change of the ABI.
import { expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { evaluate } from '../build/scripts.js';
import { abi, call, libraryFile, root, temporary, text } from './library.js';

const header = join(root, 'native/capi/fused_grpo.h');
const source = readFileSync(header, 'utf8');
const STRICT = ['-Wall', '-Wextra', '-Wpedantic', '-Wconversion', '-Wshadow', '-Werror'];

test.each([
  ['cc', ['-std=c99', '-Wstrict-prototypes', '-x', 'c']],
  ['cc', ['-std=c11', '-x', 'c']],
  ['c++', ['-std=c++17', '-Wold-style-cast', '-x', 'c++']],
  ['c++', ['-std=c++20', '-x', 'c++']],
])('%s %j compiles it without a warning, also twice', (compiler, flags) => {
  const file = join(temporary(), 'user.c');
  writeFileSync(
    file,
    '#include "fused_grpo.h"\n#include "fused_grpo.h"\nint main(void) { return fg_abi_version() == FG_ABI_VERSION ? 0 : 1; }\n',
  );
  const run = spawnSync(compiler, [...STRICT, ...flags, '-fsyntax-only', '-I', join(root, 'native/capi'), file], { encoding: 'utf8' });
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
});

test('the library exports the functions of the header and nothing else', () => {
  const out = execFileSync('nm', ['-D', '--defined-only', libraryFile], { encoding: 'utf8' });
  const exported = out
    .trim()
    .split('\n')
    .map((line) => line.split(' ').pop()!)
    .filter((name) => !/^__(asan|odr|ubsan)/.test(name)); // of test:asan
  expect(exported.sort()).toEqual(Object.keys(abi.functions).sort());
  const declared = source.match(/^FG_API/gm)!.length;
  expect(Object.keys(abi.functions)).toHaveLength(declared);
});

test('versions: of the ABI, of the package, of the file', () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  expect(text('fg_version')).toBe(version);
  expect(call('fg_abi_version')).toBe(abi.version);
  expect(execFileSync('readelf', ['-d', libraryFile], { encoding: 'utf8' })).toContain(`[libfused_grpo.so.${abi.version}]`);
  expect(['avx512', 'avx2', 'neon', 'portable']).toContain(text('fg_simd'));
});

test('names of statuses', () => {
  const statuses = Object.entries(abi.enums).slice(0, 10);
  expect(statuses.at(-1)![0]).toBe('FG_INTERNAL');
  for (const [name, value] of statuses) expect(text('fg_status_name', value)).toBe(name);
  expect(text('fg_status_name', 999)).toBe('an unknown status');
  expect(text('fg_status_name', -1)).toBe('an unknown status');
});

/** What the check says about headers. */
function problemsOf(...headers: string[]): (string | null)[] {
  const files = headers.map((text) => {
    const file = join(temporary(), 'fused_grpo.h');
    writeFileSync(file, text);
    return file;
  });
  const each = `${JSON.stringify(files)}.map((file) => m.abiProblem(${JSON.stringify(abi)}, m.describeAbi(file)))`;
  return evaluate('capi-abi.mjs', each) as (string | null)[];
}
const replaced = (from: string | RegExp, to: string) => {
  const changed = source.replace(from, to);
  expect(changed).not.toBe(source);
  return changed;
};

test('abi.json is what the header says', () => expect(problemsOf(source)).toEqual([null]));

test.each([
  ['two fields change places', /(const float\* old_logps;.*\n)(\s*const float\* ref_logps;.*\n)/, '$2$1', 'fg_policy_batch.old_logps'],
  ['a field becomes wider', 'int32_t ddof;', 'int64_t ddof;', 'fg_advantage_options.ddof'],
  ['a field becomes unsigned', 'int32_t ddof;', 'uint32_t ddof;', 'fg_advantage_options.ddof'],
  ['a pointer is no longer const', 'const double* step_rewards;', 'double* step_rewards;', 'step_rewards'],
  ['a field goes', /\n.*int32_t whiten;.*/, '', 'fg_gae_args.whiten'],
  ['a field in between', 'double gamma;', 'double discount;\n  double gamma;', 'fg_gae_args.discount is new and not behind the old end'],
  ['an enumerator gets another value', 'FG_KL_COV = 12', 'FG_KL_COV = 13', "FG_KL_COV was '12'"],
  [
    'a function gets another parameter',
    'fg_value_loss(const fg_value_loss_args* args, ',
    'fg_value_loss(const fg_value_loss_args* args, int x, ',
    'fg_value_loss was',
  ],
  ['a function goes', /^FG_API const char\* fg_simd.*$/m, '', 'fg_simd was'],
  [
    'a struct goes',
    /typedef struct fg_metrics \{[^}]*\} fg_metrics;/,
    'typedef struct fg_metrics fg_metrics;',
    'struct fg_metrics is gone',
  ],
  ['FG_UNSET', '(-1.7976931348623157e308)', '(-1.0e308)', 'FG_UNSET was'],
])('%s: needs another version', (_what, from, to, said) => {
  const changed = replaced(from, to);
  const [problem, raised] = problemsOf(changed, changed.replace('#define FG_ABI_VERSION 1', '#define FG_ABI_VERSION 2'));
  expect(problem).toMatch(/^the ABI changed and FG_ABI_VERSION did not: /);
  expect(problem).toContain(said);
  expect(raised).toMatch(/out of date/);
});

test('what is added at the end is told, and needs no other version', () => {
  const longer = replaced(/\} fg_gae_args;/, '  double more;\n} fg_gae_args;');
  const more = replaced('FG_API fg_status fg_gae(', 'FG_API void fg_more(void);\nFG_API fg_status fg_gae(');
  for (const problem of problemsOf(longer, more)) expect(problem).toMatch(/^test\/capi\/abi.json is out of date/);
});
