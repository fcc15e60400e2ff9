// Machines that lack something, played by a PATH of made-up commands.
import { describe, expect, test } from '@jest/globals';
import { evaluate, fakePath } from './scripts.js';

interface Check {
  name: string;
  status: string;
  found: string;
  remedy?: string;
}

const GCC = (version: string) => `case "$1" in --version) echo "g++ (GCC) ${version}";; *) echo ${version};; esac`;
const MAKE = 'echo "GNU Make 4.3"';
const PYTHON = (pip: boolean, venv: boolean) =>
  `case "$*" in *"-m pip"*) ${pip ? 'echo "pip 23 from x"' : 'exit 1'};; *--version*) echo "Python 3.12.0";; *ensurepip*) ${venv ? 'echo 1' : 'exit 1'};; *) exit 1;; esac`;
const APT = 'echo apt 2.6';

const compiler = (commands: Record<string, string>, env: Record<string, string> = {}) =>
  evaluate('toolchain.mjs', 'm.checkCompiler()', { PATH: fakePath(commands), ...env });

test('compilers that will do', () => {
  expect(compiler({ 'g++': GCC('12.2.0') })).toBe('g++ 12.2.0');
  expect(
    compiler({ 'clang++': 'case "$1" in --version) echo "Debian clang version 15.0.6";; *) echo 15.0.6;; esac' }, { CXX: 'clang++' }),
  ).toBe('clang++ 15.0.6');
  expect(compiler({ ccache: 'shift; exec g++ "$@"', 'g++': GCC('13.1.0') }, { CXX: 'ccache g++' })).toBe('ccache g++ 13.1.0');
});

test('no compiler, an old one, none of that name: the problem and the command', () => {
  expect(compiler({ 'apt-get': APT })).toMatchObject({
    problem: 'No C++ compiler: g++ was not found.',
    remedy: expect.stringMatching(/apt-get install -y g\+\+ make/),
  });
  expect(compiler({ dnf: APT })).toMatchObject({ remedy: expect.stringContaining('dnf install -y gcc-c++ make') });
  expect(compiler({})).toMatchObject({ remedy: 'install g++ 11 or newer and make' });
  expect(compiler({ 'g++': GCC('10.2.1') }).problem).toBe('g++ is version 10.2.1; C++20 needs 11 or newer.');
  expect(compiler({ 'g++': GCC('12.2.0') }, { CXX: 'nope' }).problem).toContain('nope was not found');
});

test('no make', () => expect(evaluate('toolchain.mjs', 'm.checkMake()', { PATH: fakePath({}) }).problem).toContain('make was not found'));

test('cmake: new enough and with something to drive, else pip brings one', () => {
  const cmake = (version: string, more: Record<string, string> = { make: MAKE }) =>
    evaluate('toolchain.mjs', 'm.usableCmake()', { PATH: fakePath({ cmake: `echo "cmake version ${version}"`, ...more }) });
  expect(cmake('3.25.1')).toBe('3.25.1');
  expect(cmake('4.0.2')).toBe('4.0.2');
  expect(cmake('3.21.9')).toBeNull();
  expect(cmake('3.25.1', {})).toBeNull();
  expect(evaluate('toolchain.mjs', 'm.usableCmake()', { PATH: fakePath({}) })).toBeNull();
});

describe('Python', () => {
  // null: /usr/bin/python3, which is looked at beside the PATH, plays no part
  const python = (commands: Record<string, string>) =>
    evaluate('deps.mjs', 'm.findPython(null)', { PATH: fakePath(commands), FUSED_GRPO_DEPS: '/no/such' });
  test('with pip', () =>
    expect(python({ python3: PYTHON(true, true) })).toMatchObject({ python: 'python3', version: 'Python 3.12.0', pip: 'pip 23' }));
  test('without pip, and without anything', () => {
    expect(python({ python3: PYTHON(false, true) })).toMatchObject({ python: 'python3', pip: null, venv: true });
    expect(python({ python3: PYTHON(false, false) })).toMatchObject({ python: 'python3', pip: null, venv: false });
    expect(python({})).toMatchObject({ python: null });
    const asked = evaluate('deps.mjs', 'm.pythonWithPip(null)', {
      PATH: fakePath({ python3: PYTHON(false, false) }),
      FUSED_GRPO_DEPS: '/no/such',
    });
    expect(asked.problem).toBe('Python 3 is there but has no pip.');
  });
});

describe('doctor on a bare machine', () => {
  const doctor = (commands: Record<string, string>, env: Record<string, string> = {}): Check[] =>
    evaluate('checks.mjs', 'm.machineChecks()', { PATH: fakePath(commands), FUSED_GRPO_DEPS: '/tmp/no such deps', ...env });
  const named = (checks: Check[], name: string) => checks.find((c) => c.name === name);

  test('what is missing but not needed now is only a note (both addons are built here)', () => {
    const checks = doctor({ 'apt-get': APT });
    expect(named(checks, 'C++ compiler')).toMatchObject({ status: 'note', remedy: expect.stringContaining('apt-get install -y g++ make') });
    expect(named(checks, 'make')).toMatchObject({ status: 'note' });
    expect(named(checks, 'core')).toMatchObject({ status: 'ok' });
    expect(named(checks, 'libtorch')).toMatchObject({ status: 'note', found: expect.stringContaining('none yet') });
  });

  test('a LIBTORCH that cannot be used is named, with the reason', () => {
    const checks = doctor({}, { LIBTORCH: '/usr' });
    expect(named(checks, 'libtorch')).toMatchObject({
      status: 'bad',
      found: expect.stringContaining("distribution's own"),
      remedy: expect.stringContaining('unset LIBTORCH'),
    });
  });

  test('every bad check has a remedy', () => {
    for (const c of doctor({}, { LIBTORCH: '/no/such' })) if (c.status === 'bad') expect(c.remedy).toBeTruthy();
  });
});

describe('the words of build', () => {
  const parse = (...argv: string[]) => evaluate('build.mjs', `m.parseBuildArguments(${JSON.stringify(argv)})`);
  test('parts and options', () => {
    expect(parse()).toMatchObject({ parts: ['ts', 'core', 'engine'], force: false });
    expect(parse('core', '--force')).toMatchObject({ parts: ['core'], force: true });
    expect(parse('engine', '--torch', '/a b')).toMatchObject({ parts: ['engine'], torch: '/a b' });
    expect(parse('--torch=/a=b')).toMatchObject({ torch: '/a=b' });
  });
  test('mistakes', () => {
    expect(parse('--forse').problem).toContain("Unknown option '--forse'");
    expect(parse('motor').problem).toContain("Unknown part 'motor'");
    expect(parse('--torch').problem).toContain('--torch needs a folder');
  });
});
