// The package as a stranger gets it: packed, installed into an empty project without install scripts, built by its own command.
// Its path and libtorch's have a space and a letter outside ASCII. libtorch is the checkout's own, so that nothing large is fetched.
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execute, pack, plainEnv } from './installed.js';
import { evaluate, plant, temporary } from './scripts.js';

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

/** The checkout's libtorch under a path with a space and letters outside ASCII: it becomes the engine's own path to its libraries. */
function oddlyNamed(libtorch: string): string {
  const linked = join(folder, 'my libtörch');
  mkdirSync(linked);
  for (const name of readdirSync(libtorch)) symlinkSync(join(libtorch, name), join(linked, name));
  return linked;
}
const env = { ...plainEnv(), LIBTORCH: torch ? oddlyNamed(torch.folder) : '', FORCE_COLOR: '0' };

function run(command: string, args: string[], { more = {}, uid }: { more?: Record<string, string>; uid?: number } = {}) {
  return execute(command, args, { cwd: app, env: { ...env, ...more }, ...(uid ? { uid, gid: uid } : {}) });
}
const cli = (...args: string[]) => run(process.execPath, [join(app, 'node_modules/.bin/fused-grpo'), ...args]);
const ask = (code: string, type = 'commonjs') => run(process.execPath, [`--input-type=${type}`, '-e', code]);

beforeAll(() => {
  const { tarball } = pack(folder);
  plant(app, { 'package.json': '{"name":"app","private":true}' });
  const install = run('npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball]);
  if (install.code !== 0) throw new Error(install.err);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

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

describe('a build that cannot be', () => {
  test('in a folder that may not be written: said, with the folder', () => {
    const root = process.getuid?.() === 0;
    chmodSync(folder, 0o755); // so that another user gets there
    if (!root) chmodSync(installed, 0o555);
    const nobody = root ? { uid: 65534, more: { HOME: '/nonexistent' } } : {};
    const build = run(process.execPath, [join(installed, 'scripts/cli.mjs'), 'build', 'core'], nobody);
    const doctor = run(process.execPath, [join(installed, 'scripts/cli.mjs'), 'doctor'], nobody);
    if (!root) chmodSync(installed, 0o755);
    expect(build.code).toBe(1);
    expect(build.err).toContain(`The package's folder cannot be written: ${installed}/`);
    expect(build.err).toContain('To mend it: run the command as the user who installed the package');
    expect(doctor.out).toMatch(/✘ package folder .* cannot be written \(EACCES\)/);
  });
  test('without a network: said, with what to do, and nothing half-fetched is left', () => {
    const deps = join(folder, 'deps');
    const offline = { PIP_INDEX_URL: 'http://127.0.0.1:9/simple', PIP_EXTRA_INDEX_URL: '', PIP_RETRIES: '0', PIP_CONFIG_FILE: '/dev/null' };
    const build = run('npx', ['fused-grpo', 'build', 'engine'], { more: { ...offline, LIBTORCH: '', FUSED_GRPO_DEPS: deps } });
    expect(build.code).toBe(1);
    expect(build.err).toMatch(
      /pip could not fetch torch: .*\n +To mend it: check the network or pip's index settings .*or set LIBTORCH to a libtorch you have/,
    );
    expect(readdirSync(deps)).toEqual([]);
  });
  test('with a LIBTORCH that cannot be used', () => {
    const build = run('npx', ['fused-grpo', 'build', 'engine'], { more: { LIBTORCH: '/usr' } });
    expect([build.code, build.err]).toEqual([
      1,
      expect.stringContaining("The libtorch in /usr cannot be used: it is the distribution's own"),
    ]);
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
    expect(doctor.checks.find((c) => c.name === 'core loads')).toMatchObject({
      status: 'bad',
      remedy: 'npx fused-grpo build core --force',
    });
  });
});
