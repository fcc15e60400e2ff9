#!/usr/bin/env node
// The command line's entry. `build` must work before anything is built, so it is handled here; the rest lives in lib/cli/.
import { existsSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../dist/cjs/cli/main.js', import.meta.url));
if (!existsSync(main)) {
  const built = spawnSync(process.execPath, [fileURLToPath(new URL('./build.mjs', import.meta.url)), 'ts'], { stdio: 'inherit' });
  if (built.status !== 0) process.exit(1);
}
createRequire(import.meta.url)(main).main(process.argv.slice(2));
