// Running parts of scripts/*.mjs from jest: in processes of their own, since they are ES modules and look at the environment.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

export const root = join(__dirname, '../..');
export const temporary = (): string => mkdtempSync(join(tmpdir(), 'fused-grpo tést-'));

/** Writes files (by relative path) under a folder. */
export function plant(folder: string, files: Record<string, string>): string {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** The value of `expression`, with the script's exports in scope; an error as { problem, remedy }. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each test knows what it asked for
export function evaluate(script: string, expression: string, env: Record<string, string> = {}): any {
  const code = `import * as m from ${JSON.stringify(pathToFileURL(join(root, 'scripts', script)).href)};
    let value; try { value = await (${expression}); } catch (e) { value = { problem: e.problem ?? String(e.stack), remedy: e.remedy }; }
    console.log(JSON.stringify(value ?? null));`;
  const clean = { ...process.env, LIBTORCH: '', CXX: '', PYTHON: '', ...env };
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8', env: clean });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as unknown;
}

/** A PATH of made-up commands (shell scripts) and of the machine's own that are named. */
export function fakePath(commands: Record<string, string>, real: string[] = ['sh', 'uname']): string {
  const folder = temporary();
  for (const [name, body] of Object.entries(commands)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  for (const name of real) {
    const found = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim();
    if (found) symlinkSync(found, join(folder, name));
  }
  return folder;
}
