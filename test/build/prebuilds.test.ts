// Addons that were built elsewhere: which is taken, why others are passed over, and that installing compiles nothing where one fits.
// The files are those of this checkout, collected by scripts/prebuilds.mjs; FUSED_GRPO_SLOW_TESTS=1 has it build the core, too.
import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execute, patch, plainEnv, project, type Project } from './installed.js';
import { evaluate, fakePath, root } from './scripts.js';

jest.setTimeout(120_000);

const platform = `${process.platform}-${process.arch}`;
const torch = (
  evaluate('libtorch.mjs', 'm.locateLibtorch()', process.env.LIBTORCH ? { LIBTORCH: process.env.LIBTORCH } : {}) as { folder: string }
).folder;
interface Entry {
  addon: string;
  file: string;
  version: string;
  torch: string;
  libc: string;
  napi: number;
  glibc: string;
  sha256: string;
}
let p: Project;
let folder: string;
let whole: Entry[];

beforeAll(() => {
  p = project();
  const engine = join(p.installed, 'build-engine/Release/engine.node');
  if (torch.includes('.deps/torch')) patch(engine, '.deps/torch', '.none/torch'); // its own path to libtorch
  folder = join(p.installed, 'prebuilds', platform);
  const code = `import { collect } from ${JSON.stringify(join(p.installed, 'scripts/prebuilds.mjs'))}; console.log(JSON.stringify(collect(['core', 'engine'], ${JSON.stringify(folder)})));`;
  const made = p.node(code, { module: true });
  whole = JSON.parse(made.out || JSON.stringify(made.err)) as Entry[];
  for (const name of ['build', 'build-engine', '.deps', 'lib']) rmSync(join(p.installed, name), { recursive: true, force: true });
});
afterAll(() => rmSync(dirname(p.app), { recursive: true, force: true }));
beforeEach(() => manifest(whole));

const manifest = (addons: object[]) => writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ addons }));
const changed = (more: object) => whole.map((e) => ({ ...e, ...more }));
const loaded = (env: Record<string, string> = {}) => {
  const ask = `const { core, engine, reasons } = require('fused-grpo').capabilities();
    console.log(JSON.stringify({ core, engine, reasons, files: Object.keys(require.cache).filter((k) => k.endsWith('.node')) }));`;
  const { out, err } = p.node(ask, { env });
  return JSON.parse(out || JSON.stringify(err)) as { core: boolean; engine: boolean; reasons: Record<string, string>; files: string[] };
};

test('the manifest says what each file is', () => {
  expect(whole.map((e) => e.file)).toEqual([
    'core.napi9.glibc.node',
    expect.stringMatching(/^engine\.napi9\.glibc\.torch-\d+\.\d+\.\d+\.node$/),
  ]);
  expect(whole[0]).toMatchObject({ addon: 'core', libc: 'glibc', napi: 9, torch: '', glibc: expect.stringMatching(/^2\.\d+$/) });
  expect(whole[1]!.sha256).toMatch(/^[0-9a-f]{64}$/);
});

describe('loading', () => {
  test('both load; the engine with a libtorch that LIBTORCH names, in a folder that no path in it points to', () => {
    const { files, ...caps } = loaded({ LIBTORCH: torch, FUSED_GRPO_DEPS: '/no/such' });
    expect(caps).toMatchObject({ core: true, engine: true });
    expect(files).toEqual(whole.map((e) => join(folder, e.file)));
  });
  test('without libtorch the core loads, and the engine says what to do', () => {
    expect(loaded({ FUSED_GRPO_DEPS: '/no/such' })).toMatchObject({
      ...{ core: true, engine: false },
      reasons: {
        engine: expect.stringMatching(/needs libtorch \d\S+, and there is none\. Run: npx fused-grpo build engine \(it fetches one\)/),
      },
    });
  });
  test('doctor knows them', () => {
    const env = { ...plainEnv(), LIBTORCH: torch, FUSED_GRPO_DEPS: '/no/such' };
    const { out } = execute(process.execPath, [join(p.installed, 'scripts/cli.mjs'), 'doctor'], { cwd: p.app, env });
    expect(out).toMatch(/✔ core +prebuilt: .*core\.napi9\.glibc\.node/);
    expect(out).toMatch(/✔ engine +prebuilt: /);
    expect(out).toContain('All is well');
  });
  test.each([
    ['another C library', { libc: 'musl' }, /was built for musl, and this machine has glibc/],
    ['a newer system', { glibc: '9.99' }, /needs glibc 9\.99, and this machine has 2\.\d+/],
    ['a newer Node.js', { napi: 99 }, /needs Node-API 99, and Node\.js v\d+\S+ has \d+/],
    ['another version of the package', { version: '0.0.1' }, /was built for fused-grpo 0\.0\.1/],
    ['a file that is gone', { file: 'gone.node' }, /gone\.node is listed but not there/],
  ])('one of %s is passed over, and said', (_, more, words) => {
    manifest(changed(more));
    const { core, reasons } = loaded({ LIBTORCH: torch });
    expect([core, reasons.core]).toEqual([false, expect.stringMatching(words)]);
    expect(reasons.core).toMatch(/The core addon is not built \(prebuilt ones do not fit: .*\)\. Run: npx fused-grpo build$/);
  });
  test('the engine of another libtorch is passed over', () => {
    manifest(whole.map((e) => (e.torch ? { ...e, torch: '2.99.0' } : e)));
    expect(loaded({ LIBTORCH: torch })).toMatchObject({
      ...{ core: true, engine: false },
      reasons: { engine: expect.stringMatching(/needs libtorch 2\.99\.0, and the one in .* is \d/) },
    });
  });
  test('of several, the first that fits', () => {
    manifest([...changed({ libc: 'musl', file: 'x.node' }), ...whole]);
    expect(loaded().core).toBe(true);
  });
  test('a file that is not the one that was listed', () => {
    const file = join(folder, whole[0]!.file);
    const kept = readFileSync(file);
    appendFileSync(file, 'x');
    expect(loaded().reasons.core).toMatch(/is not the file that its manifest lists \(SHA-256\)\. Run: npx fused-grpo build core --force/);
    writeFileSync(file, kept);
  });
});

test('a package for the platform serves where the package itself has none; what is built here is preferred', () => {
  const extra = join(p.app, 'node_modules', `fused-grpo-${platform}`);
  mkdirSync(extra);
  writeFileSync(join(extra, 'package.json'), JSON.stringify({ name: `fused-grpo-${platform}`, version: '0.1.0' }));
  mkdirSync(join(extra, 'prebuilds'));
  renameSync(folder, join(extra, 'prebuilds', platform));
  try {
    expect(loaded().files).toEqual([join(extra, 'prebuilds', platform, whole[0]!.file)]);
    const own = join(p.installed, 'build/Release/core.node');
    cpSync(join(root, 'build/Release/core.node'), own);
    expect(loaded().files).toEqual([own]);
    rmSync(join(p.installed, 'build'), { recursive: true });
  } finally {
    renameSync(join(extra, 'prebuilds', platform), folder);
    rmSync(extra, { recursive: true });
  }
});

describe('installing and building, on a machine without a compiler', () => {
  const build = (words: string[], env: Record<string, string> = {}) => {
    const bare = { ...plainEnv(), PATH: fakePath({}), FUSED_GRPO_SAY_DONE: '1', FUSED_GRPO_CUDA: '0', ...env };
    return execute(process.execPath, [join(p.installed, 'scripts/build.mjs'), ...words], { cwd: p.app, env: bare });
  };
  test('the prebuilt addons are used and nothing is compiled', () => {
    const installed = build(['install']);
    expect([installed.code, installed.err]).toEqual([
      0,
      `Using the prebuilt core: ${join(folder, whole[0]!.file)}\nEverything is up to date.\n`,
    ]);
    const both = build(['native'], { LIBTORCH: torch, FUSED_GRPO_DEPS: join(p.app, 'deps') });
    expect([both.code, both.err]).toEqual([
      0,
      expect.stringContaining(`Using the prebuilt engine: ${join(folder, whole[1]!.file)}\nEverything is up to date.`),
    ]);
    expect(existsSync(join(p.installed, 'build')) || existsSync(join(p.installed, 'build-engine'))).toBe(false);
  });
  test('--force builds, and so does a machine that none fits: both ask for a compiler; installing itself goes on', () => {
    expect(build(['core', '--force'])).toMatchObject({ code: 1, err: expect.stringContaining('No C++ compiler') });
    manifest(changed({ libc: 'musl' }));
    expect(build(['core'])).toMatchObject({ code: 1, err: expect.stringContaining('No C++ compiler') });
    expect(build(['install'])).toMatchObject({ code: 0, err: expect.stringContaining('importing still works') });
  });
  test('a prebuilt one that does not load is not used', () => {
    const file = join(folder, whole[0]!.file);
    const kept = readFileSync(file);
    writeFileSync(file, kept.subarray(0, 5000));
    expect(build(['core']).err).toMatch(/The prebuilt core does not load here \(.*damaged.*\); building one\.\nNo C\+\+ compiler/);
    writeFileSync(file, kept);
  });
});

(process.env.FUSED_GRPO_SLOW_TESTS ? test : test.skip)(
  'npm run prebuilds core --package: a package for the platform, whose core needs no C++ library',
  () => {
    const other = project({ built: false });
    const extra = join(other.app, 'node_modules', `fused-grpo-${platform}`);
    const made = execute(process.execPath, [join(other.installed, 'scripts/prebuilds.mjs'), 'core', '--package', extra], {
      cwd: other.app,
      env: plainEnv(),
    });
    expect([made.code, made.err]).toEqual([0, expect.stringMatching(/core\.napi9\.glibc\.node {2}0\.\d MB {2}glibc 2\.\d+\n$/)]);
    const { os, cpu, libc, version } = JSON.parse(readFileSync(join(extra, 'package.json'), 'utf8')) as Record<string, unknown>;
    expect({ os, cpu, libc }).toEqual({ os: [process.platform], cpu: [process.arch], libc: ['glibc'] });
    const { addons } = JSON.parse(readFileSync(join(extra, 'prebuilds', platform, 'manifest.json'), 'utf8')) as { addons: object[] };
    expect(addons).toMatchObject([{ addon: 'core', version, glibcxx: null }]);
    rmSync(join(other.installed, 'build'), { recursive: true });
    const ask =
      "const f = require('fused-grpo'); console.log(f.groupAdvantages([1, 0], { numGenerations: 2 }).advantages.length, f.capabilities().simd)";
    expect(other.node(ask).out).toMatch(/^2 \w+\n$/);
    rmSync(dirname(other.app), { recursive: true, force: true });
  },
);
