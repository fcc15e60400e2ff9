#!/usr/bin/env node
// The command line's entry. `build` and a first `doctor` must work before anything is built, so they are handled here; the rest lives in lib/cli/.
import { existsSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const main = here('../dist/cjs/cli/main.js');
const [command, ...rest] = process.argv.slice(2);

function build(args, env = {}) {
  return spawnSync(process.execPath, [here('./build.mjs'), ...args], { stdio: 'inherit', env: { ...process.env, ...env } }).status ?? 1;
}

/** Checks that need nothing built, as plain lines. */
async function doctorWithoutDist() {
  const { machineChecks } = await import('./checks.mjs');
  const checks = machineChecks();
  if (rest.includes('--json')) console.log(JSON.stringify({ ok: false, next: 'npm ci', checks }, null, 2));
  else
    for (const c of checks)
      console.log(
        `${c.status === 'ok' ? '✔' : c.status === 'note' ? '–' : '✘'} ${c.name}: ${c.found}${c.remedy && c.status !== 'ok' ? `\n  → ${c.remedy}` : ''}`,
      );
  console.error("The command line's JavaScript (dist/) is not built and could not be built now.\nNext: npm ci");
  return 1;
}

if (command === 'build' && !rest.includes('--help') && !rest.includes('-h')) process.exit(build(rest, { FUSED_GRPO_SAY_DONE: '1' }));
if (!existsSync(main) && build(['ts']) !== 0) process.exit(command === 'doctor' ? await doctorWithoutDist() : 1);
await createRequire(import.meta.url)(main).main(process.argv.slice(2));
