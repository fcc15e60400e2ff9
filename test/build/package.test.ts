// The package as a stranger gets it: packed, installed into an empty project without install scripts, built by its own command.
// The path has a space and a letter outside ASCII. libtorch is the checkout's own, so that nothing large is fetched.
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { evaluate, plant, root, temporary } from './scripts.js';

// Compiling the engine takes minutes: `npm test` builds the core alone here, .ci/run sets this and builds both.
const slow = Boolean(process.env.FUSED_GRPO_SLOW_TESTS);
jest.setTimeout(slow ? 1_200_000 : 120_000);

const folder = temporary();
const app = join(folder, 'my app');
const installed = join(app, 'node_modules/fused-grpo');
const torch: { folder: string } | null = evaluate(
  'libtorch.mjs',
  'm.locateLibtorch()',
  process.env.LIBTORCH ? { LIBTORCH: process.env.LIBTORCH } : {},
);

/** npm's settings of the machine that runs the tests must neither help nor hinder. */
const env = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))),
  LIBTORCH: torch?.folder ?? '',
  FORCE_COLOR: '0',
};

function run(command: string, args: string[], { cwd = app, more = {} }: { cwd?: string; more?: Record<string, string> } = {}) {
  const result = spawnSync(command, args, { cwd, encoding: 'utf8', env: { ...env, ...more } });
  return { code: result.status, out: result.stdout, err: result.stderr };
}
const cli = (...args: string[]) => run(process.execPath, [join(app, 'node_modules/.bin/fused-grpo'), ...args]);
const ask = (code: string, type = 'commonjs') => run(process.execPath, [`--input-type=${type}`, '-e', code]);

beforeAll(() => {
  // dist/ was built by pretest; --ignore-scripts keeps prepack from building it again under the other tests' feet
  const packed = run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: root });
  expect(packed.code).toBe(0);
  plant(app, { 'package.json': '{"name":"app","private":true}' });
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))!;
  const install = run('npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', join(folder, tarball)]);
  if (install.code !== 0) throw new Error(install.err);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the tarball holds what a build needs and nothing of the workshop', () => {
  const has = (name: string) => existsSync(join(installed, name));
  for (const name of [
    'dist/index.mjs',
    'dist/index.d.mts',
    'dist/cjs/index.d.ts',
    'binding.gyp',
    'CMakeLists.txt',
    'native/kernels/sources.txt',
    'scripts/nodedir/common.gypi',
    'LICENSE',
  ])
    expect([name, has(name)]).toEqual([name, true]);
  for (const name of ['lib', 'test', '.deps', 'build', 'build-engine', 'node_modules', '.ci'])
    expect([name, has(name)]).toEqual([name, false]);
});

describe('before anything is built', () => {
  test('import works both ways, and capabilities says what to do', () => {
    const required = ask("console.log(JSON.stringify(require('fused-grpo').capabilities()))");
    expect(JSON.parse(required.out)).toMatchObject({
      core: false,
      engine: false,
      reasons: { core: expect.stringContaining('npx fused-grpo build') },
    });
    expect(ask("import { capabilities } from 'fused-grpo'; console.log(capabilities().core)", 'module').out).toBe('false\n');
  });
  test('doctor names the one command', () => {
    const doctor = cli('doctor', '--json');
    expect(doctor.code).toBe(1);
    expect(JSON.parse(doctor.out)).toMatchObject({ ok: false, next: 'npx fused-grpo build' });
  });
  test('a wrong libtorch is refused, and nothing half-built is left', () => {
    const build = cli('build', 'engine', '--torch', folder);
    expect(build.code).toBe(1);
    expect(build.err).toContain('lib/libtorch_cpu.so is missing');
    expect(existsSync(join(installed, 'build-engine'))).toBe(false);
    expect(cli('build', '--forse').code).toBe(2);
  });
});

describe('built by npx fused-grpo build', () => {
  const parts = slow ? [] : ['core'];
  test('the addons load, and a nodedir in npm settings does not matter', () => {
    const build = run('npx', ['fused-grpo', 'build', ...parts], { more: { npm_config_nodedir: '/usr' } });
    expect(build.err).toContain('Built.');
    expect(build.code).toBe(0);
    const caps = ask("console.log(JSON.stringify(require('fused-grpo').capabilities()))");
    expect(JSON.parse(caps.out)).toMatchObject({ core: true, engine: slow });
  });
  test('nothing to do takes less than 3 seconds', () => {
    const begin = performance.now();
    expect(cli('build', ...parts).err).toContain('Everything is up to date.');
    expect(performance.now() - begin).toBeLessThan(3000);
  });
  test('doctor is content, or asks for the engine alone', () => {
    const doctor = JSON.parse(cli('doctor', '--json').out) as { ok: boolean; checks: { name: string; status: string }[] };
    expect(doctor.checks.filter((c) => c.status === 'bad').map((c) => c.name)).toEqual(slow ? [] : ['engine']);
  });
  (slow ? test : test.skip)('the demo trains and writes its report (with the engine: FUSED_GRPO_SLOW_TESTS=1)', () => {
    const demo = cli('demo', '--max-steps', '2', '--json', '--output', 'runs/demo');
    expect(demo.code).toBe(0);
    const result = JSON.parse(demo.out) as { steps: number; accuracyBefore: number; report: string };
    expect(result).toMatchObject({ status: 'ok', steps: 2 });
    expect(result.accuracyBefore).toBeGreaterThan(0.4);
    expect(existsSync(result.report)).toBe(true);
  });
  test('changed sources are noticed by doctor; a build that fails says why and leaves no old addon behind', () => {
    const source = join(installed, 'native/addon/core/core.cc');
    const good = readFileSync(source, 'utf8');
    writeFileSync(source, good + '\nthis is no C++\n');
    const doctor = JSON.parse(cli('doctor', '--json').out) as { next: string };
    expect(doctor.next).toBe('npx fused-grpo build core');
    const failed = cli('build', 'core');
    expect(failed.code).toBe(1);
    expect(failed.err).toMatch(/core\.cc:\d+:\d+: error/);
    expect(existsSync(join(installed, 'build/Release/core.node'))).toBe(false);
    writeFileSync(source, good);
    expect(cli('build', 'core').code).toBe(0);
    expect(ask("console.log(require('fused-grpo').capabilities().core)").out).toBe('true\n');
  });
  test('an addon that is damaged does not count as built', () => {
    writeFileSync(join(installed, 'build/Release/core.node'), 'half');
    const doctor = JSON.parse(cli('doctor', '--json').out) as { checks: { name: string; status: string; remedy: string }[] };
    expect(doctor.checks.find((c) => c.name === 'core loads')).toMatchObject({ status: 'bad', remedy: 'npx fused-grpo build --force' });
  });
});
