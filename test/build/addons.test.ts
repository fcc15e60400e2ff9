// Addons that cannot be used, each told in plain words with what to do: by the call that needs it, and by doctor.
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { appendFileSync, cpSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { patch, project, type Project } from './installed.js';
import { plant, temporary } from './scripts.js';

jest.setTimeout(120_000);

let p: Project;
let core: string;
let engine: string;
beforeAll(() => {
  p = project();
  core = join(p.installed, 'build/Release/core.node');
  engine = join(p.installed, 'build-engine/Release/engine.node');
});
afterAll(() => rmSync(dirname(p.app), { recursive: true, force: true }));

/** What loading says: the error's class, code and message, or "loaded". */
function load(name: 'core' | 'engine', env: Record<string, string> = {}, flags: string[] = []): string {
  const asked = name === 'core' ? 'groupAdvantages([1, 0], { numGenerations: 2 })' : 'Tensor.from(new Float32Array(1), [1])';
  const code = `const f = require('fused-grpo'); try { f.${asked}; console.log('loaded'); }
    catch (e) { console.log(e instanceof f.FusedGrpoError, e.code, e.message); }`;
  const { out, err } = p.node(code, { env, flags });
  return (out + err).trim();
}
const broken = (words: string) => `true ERR_NOT_BUILT ${words}`;

/** Changes something of the installed package for the time of `work`. */
function withChanged(file: string, change: () => void, work: () => void): void {
  const kept = readFileSync(file);
  try {
    change();
    work();
  } finally {
    writeFileSync(file, kept);
  }
}

test('unharmed, both load, from a folder whose path has a space and a letter outside ASCII', () => {
  expect(p.app).toMatch(/[^\x20-\x7e]/);
  expect([load('core'), load('engine')]).toEqual(['loaded', 'loaded']);
});

const ELF_MACHINE = 18;
const DAMAGE: [string, 'core' | 'engine', (file: string) => void, RegExp][] = [
  [
    'nothing like an addon',
    'core',
    (f) => writeFileSync(f, 'half'),
    /The core addon is no addon \(not an ELF file\), or is damaged\. Run: npx fused-grpo build core --force/,
  ],
  ['empty', 'core', (f) => writeFileSync(f, ''), /is no addon/],
  [
    'cut in the middle: mapping it would end the process',
    'core',
    (f) => truncateSync(f, readFileSync(f).length / 2),
    /The core addon is damaged: \d+ of \d+ bytes are there\. Run: /,
  ],
  ['without its last byte', 'engine', (f) => truncateSync(f, readFileSync(f).length - 1), /The engine addon is damaged: \d+ of \d+ bytes/],
  [
    'of another processor',
    'core',
    (f) => writeSync(openSync(f, 'r+'), Buffer.from([183, 0]), 0, 2, ELF_MACHINE),
    /was built for arm64, and this Node\.js is x64\. Run: npx fused-grpo build core --force/,
  ],
  [
    'built by a version that wrote no identity',
    'core',
    (f) => patch(f, 'FUSED_GRPO_ADDON=', 'FUSED_GRPO_OTHER='),
    /was built by another version of fused-grpo/,
  ],
  ['the other addon', 'core', (f) => cpSync(engine, f), /The core addon is the engine\. /],
  ['of another C library', 'core', (f) => patch(f, '"libc":"glibc",', '"libc":"musl" ,'), /was built for musl, and this machine has glibc/],
  [
    'of a newer Node-API',
    'core',
    (f) => patch(f, /"napi":9,"libc":"glibc","torch":""\}/, '"napi":98,"libc":"glibc"}'.padEnd(35)),
    /needs Node-API 98, and Node\.js v\d+\.\d+\.\d+ has \d+\. Use a newer Node\.js, or run: npx/,
  ],
  [
    'of a newer system',
    'core',
    (f) => patch(f, /GLIBC_2\.\d\d(?=\0)/, 'GLIBC_9.99'),
    /was built on a newer system: it needs glibc 9\.99, and this machine has [\d.]+\. Run: npx/,
  ],
  [
    'of a newer C++ library',
    'core',
    (f) => patch(f, /GLIBCXX_3\.4\.\d\d(?=\0)/, 'GLIBCXX_3.9.99'),
    /needs a newer C\+\+ library \(libstdc\+\+\.so\.6 with GLIBCXX_3\.9\.99\) than this machine's \[.*\]\. Update libstdc\+\+ .*or run: npx/,
  ],
  [
    'without a C++ library',
    'core',
    (f) => patch(f, 'libstdc++.so.6', 'libstdc++.so.7'),
    /needs the C\+\+ library libstdc\+\+\.so\.7, which is not installed \[.*\]\. Install libstdc\+\+/,
  ],
  [
    'without libtorch',
    'engine',
    (f) => patch(f, 'libtorch_cpu.so', 'libtorch_xyz.so'),
    /does not find libtorch \(libtorch_xyz\.so\) \[.*\]\. Run: npx fused-grpo build engine/,
  ],
  [
    'of another build of libtorch',
    'engine',
    (f) => patch(f, '_ZN2at4_ops6gather4call', '_ZN2at4_ops6gathex4call'),
    /does not fit the libtorch that it finds .*undefined symbol.*\. Run: npx fused-grpo build engine --force/,
  ],
];

test.each(DAMAGE)('an addon that is %s', (_, name, change, words) => {
  const file = name === 'core' ? core : engine;
  withChanged(
    file,
    () => change(file),
    () => {
      const said = load(name);
      expect(said).toMatch(words);
      expect(said).toMatch(new RegExp(`^true ERR_NOT_BUILT The ${name} addon `));
    },
  );
});

test('doctor says the same, and what to do', () => {
  withChanged(
    core,
    () => truncateSync(core, 5000),
    () => {
      const doctor = JSON.parse(p.cli('doctor', '--json').out) as {
        ok: boolean;
        checks: { name: string; found: string; remedy: string }[];
      };
      const check = doctor.checks.find((c) => c.name === 'core loads')!;
      expect(load('core')).toBe(broken(check.found));
      expect([doctor.ok, check.remedy]).toEqual([false, 'npx fused-grpo build core --force']);
    },
  );
  withChanged(
    core,
    () => patch(core, 'libstdc++.so.6', 'libstdc++.so.7'),
    () => expect(p.cli('doctor').out).toMatch(/→ Install libstdc\+\+ \(Debian\/Ubuntu: apt-get install libstdc\+\+6/),
  );
});

describe('built for something else', () => {
  test('another version of the package', () => {
    const manifest = join(p.installed, 'package.json');
    withChanged(
      manifest,
      () => patch(manifest, /"version": "\d+\.\d+\.\d+"/, '"version": "9.9.9"'),
      () => {
        expect(load('core')).toMatch(
          /The core addon was built for fused-grpo \d+\.\d+\.\d+, and this is 9\.9\.9\. Run: npx fused-grpo build core --force/,
        );
        expect(p.cli('doctor').out).toMatch(/core +built for fused-grpo \d+\.\d+\.\d+, and this is 9\.9\.9/);
      },
    );
  });
  test('other sources', () => {
    const source = join(p.installed, 'native/torch/torch_min.h');
    withChanged(
      source,
      () => appendFileSync(source, '//'),
      () => {
        expect([load('core'), load('engine')]).toEqual([
          'loaded',
          broken('The engine addon was built from other sources than those of this package. Run: npx fused-grpo build engine --force'),
        ]);
      },
    );
  });
  test('another libtorch: one that was replaced where it lies; what LIBTORCH names is for the next build', () => {
    const version = ['MAJOR 2', 'MINOR 99', 'PATCH 1'].map((v) => `#define TORCH_VERSION_${v}\n`).join('');
    const other = plant(temporary(), { 'lib/libtorch_cpu.so': '', 'include/torch/headeronly/version.h': version });
    expect(load('engine', { LIBTORCH: other })).toBe('loaded');
    const stamp = join(p.installed, 'build-engine/engine.json');
    withChanged(
      stamp,
      () => writeFileSync(stamp, readFileSync(stamp, 'utf8').replace(/"folder": *"[^"]*"/, `"folder": ${JSON.stringify(other)}`)),
      () =>
        expect(load('engine')).toMatch(
          /The engine addon was built with libtorch \d\S+, and the one in .* is 2\.99\.1\. Run: npx fused-grpo build engine --force/,
        ),
    );
    expect(load('engine', { LIBTORCH: other, FUSED_GRPO_ENGINE: engine })).toMatch(/is 2\.99\.1\. Unset FUSED_GRPO_ENGINE/);
  });
  test('a Node.js that is told to load no addons', () => {
    expect(load('core', {}, ['--no-addons'])).toMatch(/The core addon is refused by Node\.js \[.*\]\. Run Node\.js without --no-addons/);
  });
});

describe('a file that a variable names', () => {
  test('is loaded before what is built, and judged like it', () => {
    const elsewhere = join(temporary(), 'core.node');
    cpSync(core, elsewhere);
    const ask =
      "const f = require('fused-grpo'); f.capabilities(); console.log(Object.keys(require.cache).find((k) => k.endsWith('core.node')))";
    expect(p.node(ask, { env: { FUSED_GRPO_CORE: elsewhere } }).out.trim()).toBe(elsewhere);
    patch(elsewhere, 'FUSED_GRPO_ADDON=', 'FUSED_GRPO_OTHER=');
    expect(load('core', { FUSED_GRPO_CORE: elsewhere })).toMatch(
      /another version of fused-grpo\. Unset FUSED_GRPO_CORE, or name another file/,
    );
    expect(load('core', { FUSED_GRPO_CORE: '/no/such.node' })).toMatch(/is not there: FUSED_GRPO_CORE names \/no\/such\.node/);
  });
  test('an engine without a libtorch anywhere', () => {
    const elsewhere = join(temporary(), 'engine.node');
    cpSync(engine, elsewhere);
    expect(load('engine', { FUSED_GRPO_ENGINE: elsewhere })).toBe('loaded');
    expect(load('engine', { FUSED_GRPO_ENGINE: elsewhere, FUSED_GRPO_DEPS: '/no/such' })).toMatch(
      /needs libtorch \d\S+, and there is none\. Run: npx fused-grpo build engine \(it fetches one\), or set LIBTORCH/,
    );
  });
});
