// The C ABI's tests on a library with the address and undefined-behaviour sanitizers, and 100,000 random bad calls: node scripts/test-asan.mjs
// Node itself has no sanitizer: its runtime is loaded first, and memory of typed arrays is allocated by it, with red zones behind.
import { execFileSync, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { root } from './deps.mjs';
import { buildCapi } from './build-capi.mjs';
import { runAsCommand } from './run.mjs';

await runAsCommand(import.meta.url, async (argv) => {
  const library = buildCapi({ asan: true });
  const runtime = (name) => execFileSync('cc', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  const env = {
    ...process.env,
    FUSED_GRPO_CAPI: library,
    FUSED_GRPO_BAD_CALLS: process.env.FUSED_GRPO_BAD_CALLS ?? '100000',
    LD_PRELOAD: ['libasan.so', 'libubsan.so'].map(runtime).join(' '),
    ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  };
  const jest = createRequire(import.meta.url).resolve('jest/bin/jest');
  // in one process: jest's workers would not all get the settings
  const args = [jest, '--runInBand', '--testTimeout=600000', ...(argv.length ? argv : ['test/capi'])];
  process.exitCode = spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' }).status ?? 1;
});
