import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { evaluate, plant, root, temporary } from './scripts.js';

const header = (version: string) =>
  version
    .split('.')
    .map((n, i) => `#define TORCH_VERSION_${['MAJOR', 'MINOR', 'PATCH'][i]} ${n}`)
    .join('\n');
const whole = (version: string, claim = version): Record<string, string> => ({
  'lib/libtorch_cpu.so': '',
  'lib/libc10.so': '',
  'include/torch/headeronly/version.h': header(version),
  'version.py': `__version__ = '${claim}'`,
});
const inspect = (files: Record<string, string>) => {
  const folder = plant(temporary(), files);
  return { folder, ...evaluate('libtorch.mjs', `m.inspectLibtorch(${JSON.stringify(folder)})`) };
};

test('a whole libtorch is taken, in either layout of headers', () => {
  expect(inspect(whole('2.15.0', '2.15.0+cpu'))).toMatchObject({ version: '2.15.0', nvidia: null });
  const zip = {
    'lib/libtorch_cpu.so': '',
    'lib/libc10.so': '',
    'include/torch/csrc/api/include/torch/version.h': header('2.11.0'),
    'build-version': '2.11.0+cpu\n',
  };
  expect(inspect(zip)).toMatchObject({ version: '2.11.0' });
});

describe('refused, with the reason', () => {
  const without = (name: string) => Object.fromEntries(Object.entries(whole('2.15.0')).filter(([key]) => key !== name));
  const cases: [string, Record<string, string>, string][] = [
    ['no libtorch_cpu.so', without('lib/libtorch_cpu.so'), 'lib/libtorch_cpu.so is missing'],
    ['no libc10.so', without('lib/libc10.so'), 'lib/libc10.so is missing'],
    ['no headers', without('include/torch/headeronly/version.h'), 'version.h is missing'],
    ["Debian's", { ...whole('1.13.1'), 'lib/libtorch_cpu.so.1.13': '' }, 'it is version 1.13.1, and 2.11 or newer is needed'],
    ['too old', whole('2.10.9'), 'it is version 2.10.9'],
    ['headers of another version', whole('2.15.0', '2.12.0'), 'mixed versions: its headers are 2.15.0, its libraries 2.12.0'],
    ['two versions of libraries', { ...whole('2.15.0'), 'lib/libc10.so.1.13': '' }, 'mixed versions: libc10.so.1.13'],
    ["a distribution's layout", { 'lib/x86_64-linux-gnu/libtorch_cpu.so': '' }, "the distribution's own"],
  ];
  test.each(cases)('%s', (_, files, reason) => {
    const refused = inspect(files);
    expect(refused.problem).toContain(reason);
    expect(refused.problem).toContain(refused.folder);
    expect(refused.remedy).toContain('unset LIBTORCH');
  });
  test('no such folder', () =>
    expect(evaluate('libtorch.mjs', "m.inspectLibtorch('/no/such')").problem).toContain('there is no such folder'));
});

test('a site-packages folder stands for the torch in it', () => {
  const site = plant(temporary(), Object.fromEntries(Object.entries(whole('2.15.0')).map(([name, text]) => [`torch/${name}`, text])));
  expect(evaluate('libtorch.mjs', 'm.locateLibtorch()', { LIBTORCH: site })).toMatchObject({
    folder: join(site, 'torch'),
    why: 'LIBTORCH',
  });
});

test('a libtorch that was named is remembered, until it is gone or forgotten', () => {
  const deps = temporary();
  const torch = plant(temporary(), whole('2.15.0'));
  const env = { FUSED_GRPO_DEPS: deps };
  expect(evaluate('libtorch.mjs', 'm.locateLibtorch()', env)).toBeNull();
  expect(evaluate('libtorch.mjs', 'm.findLibtorch(undefined, () => {})', { ...env, LIBTORCH: torch }).folder).toBe(torch);
  expect(evaluate('libtorch.mjs', 'm.findLibtorch(undefined, () => {})', env).folder).toBe(torch);
  const fetched = plant(
    join(deps, 'torch'),
    Object.fromEntries(Object.entries(whole('2.15.0')).map(([name, text]) => [`torch/${name}`, text])),
  );
  plant(fetched, { '.set': evaluate('deps.mjs', "m.SETS.torch.pins.join('\\n')") });
  expect(evaluate('libtorch.mjs', "m.findLibtorch('pip', () => {})", env).folder).toBe(join(fetched, 'torch'));
  expect(evaluate('libtorch.mjs', 'm.locateLibtorch()', env).folder).toBe(join(fetched, 'torch'));
});

test('a wrong --torch changes nothing', () => {
  const deps = temporary();
  expect(evaluate('libtorch.mjs', "m.findLibtorch('/no/such', () => {})", { FUSED_GRPO_DEPS: deps }).problem).toContain('/no/such');
  expect(existsSync(join(deps, 'libtorch.json'))).toBe(false);
});

describe('fetching with a pip that fails', () => {
  // A "python3" whose pip does what the test says: the real one's messages, without its network.
  const pip = (body: string, deps: string) =>
    evaluate('deps.mjs', "m.fetchSet('clang-format', () => {})", { FUSED_GRPO_DEPS: deps, PYTHON: join(plantPython(body), 'python') });
  const plantPython = (body: string) => {
    const folder = temporary();
    plant(folder, { python: `#!/bin/sh\ncase "$*" in *--version*) echo "pip 23.0 from x";; *) ${body};; esac\n` });

    (require('node:fs') as typeof import('node:fs')).chmodSync(join(folder, 'python'), 0o755);
    return folder;
  };
  const cases: [string, string, string][] = [
    ['no network', 'echo "ERROR: Could not find a version that satisfies the requirement" >&2; exit 1', 'pip could not fetch clang-format'],
    ['a full disk', 'echo "ERROR: [Errno 28] No space left on device" >&2; exit 1', 'The disk is full'],
    ['something else', 'echo "ERROR: who knows" >&2; exit 1', 'ERROR: who knows'],
  ];
  test.each(cases)('%s', (_, body, problem) => {
    const deps = temporary();
    expect(pip(body, deps).problem).toContain(problem);
    expect(existsSync(join(deps, 'clang-format'))).toBe(false);
    expect(readdirSync(deps)).toEqual([]);
  });
  test('one that is interrupted half-way leaves nothing that counts, and the next one starts afresh', () => {
    const deps = temporary();
    mkdirSync(join(deps, 'clang-format.999999999.part/old'), { recursive: true });
    const make = 'while [ "$1" != --target ]; do shift; done; mkdir -p "$2"; echo x > "$2/file"';
    expect(pip(make, deps)).toBe(join(deps, 'clang-format'));
    expect(existsSync(join(deps, 'clang-format/old'))).toBe(false);
    expect(readdirSync(deps)).toEqual(['clang-format']);
    expect(readFileSync(join(deps, 'clang-format/.set'), 'utf8')).toBe('clang-format==19.1.7');
    expect(pip('exit 1', deps)).toBe(join(deps, 'clang-format')); // there already: pip is not asked again
  });
});

test('a build removes what a killed fetch left, and leaves alone what another process is fetching', () => {
  const deps = temporary();
  const [dead, alive] = ['torch.999999999.part', `cmake.${process.pid}.part`];
  for (const name of [dead, alive]) mkdirSync(join(deps, name));
  expect(evaluate('deps.mjs', 'm.leftovers()', { FUSED_GRPO_DEPS: deps })).toEqual([dead]);
  const { status } = spawnSync(process.execPath, [join(root, 'scripts/build.mjs'), 'ts'], {
    env: { ...process.env, FUSED_GRPO_DEPS: deps },
    encoding: 'utf8',
  });
  expect(status).toBe(0);
  expect(readdirSync(deps)).toEqual([alive]);
});
