// With the address and undefined-behaviour sanitizers: the C ABI's tests, and 100,000 random bad calls of the C ABI and of the core addon:
// node scripts/test-asan.mjs [tests of the C ABI ...]
// Node itself has no sanitizer: its runtime is loaded first, and memory of typed arrays is allocated by it, with red zones behind.
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { root } from './deps.mjs';
import { buildCapi } from './build-capi.mjs';
import { CXX, HOST_FLAGS, buildAddon, sourcesIn } from './objects.mjs';
import { runAsCommand } from './run.mjs';

/** The core addon with sanitizers, built beside the real one. */
async function buildCore() {
  const kernels = readFileSync(join(root, 'native/kernels/sources.txt'), 'utf8').trim().split(/\s+/);
  const flags = ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer', '-g1'];
  const folder = join(root, 'build-core-asan');
  const version = execFileSync(CXX, ['--version'], { encoding: 'utf8' }).split('\n')[0];
  const sources = [...kernels, ...sourcesIn('native/addon/core', /\.cc$/)];
  const jobs = sources.map((source) => ({
    source,
    folder: join(folder, 'objects'),
    command: CXX,
    args: [...HOST_FLAGS, ...flags],
    version,
  }));
  const identity = ['-DFG_ADDON="core"', '-DFG_VERSION="asan"', '-DFG_SOURCES="asan"'];
  jobs.push({ ...jobs[0], source: 'native/addon/common/identity.cc', args: [...jobs[0].args, ...identity] });
  return buildAddon({ folder, name: 'core.node', jobs, linkArgs: [...flags, '-pthread', '-Wl,-z,nodelete'] });
}

await runAsCommand(import.meta.url, async (argv) => {
  const library = buildCapi({ asan: true });
  const core = await buildCore();
  const count = Number(process.env.FUSED_GRPO_BAD_CALLS ?? 100000);
  const runtime = (name) => execFileSync('cc', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  const env = {
    ...process.env,
    FUSED_GRPO_CAPI: library,
    FUSED_GRPO_BAD_CALLS: String(count),
    LD_PRELOAD: ['libasan.so', 'libubsan.so'].map(runtime).join(' '),
    ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  };
  const node = (args) => spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' }).status ?? 1;
  const jest = createRequire(import.meta.url).resolve('jest/bin/jest');
  // in one process: jest's workers would not all get the settings
  const capi = node([jest, '--runInBand', '--testTimeout=600000', ...(argv.length ? argv : ['test/capi'])]);
  const seed = Math.floor(Date.now() / 86_400_000); // another every day; the summary names it
  const addon = node([join(root, 'test/hostile/bad-calls.cjs'), JSON.stringify({ seed, count, core })]);
  console.log(`core addon, ${count} bad calls: ${addon === 0 ? 1 : 0} passed, ${addon === 0 ? 0 : 1} failed`);
  process.exitCode = capi || addon;
});
