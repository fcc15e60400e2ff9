// Running: work side by side, and a script as a command.
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SetupError } from './deps.mjs';

/** `work` over the items, `jobs` at a time, results in order. */
export async function inParallel(items, jobs, work) {
  const results = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const n = next++;
      results[n] = await work(items[n]);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return results;
}

/** Runs `main(arguments)` when the script of this address is the command; what it throws is told, exit code 1. */
export async function runAsCommand(url, main) {
  if (!process.argv[1] || realpathSync(process.argv[1]) !== fileURLToPath(url)) return;
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof SetupError ? error.message : String(error.stack ?? error));
    process.exitCode = 1;
  }
}
