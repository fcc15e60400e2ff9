// The generated part of docs/losses.md: the table of presets. node scripts/docs.mjs [--check]
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { root } from './deps.mjs';
import { runAsCommand } from './run.mjs';

const file = join(root, 'docs', 'losses.md');
const [BEGIN, END] = ['<!-- presets: node scripts/docs.mjs -->', '<!-- end of presets -->'];

function table(presets) {
  const options = (preset) =>
    Object.entries(preset)
      .map(([name, value]) => `${name} ${typeof value === 'string' ? `'${value}'` : value}`)
      .join(', ');
  const source = readFileSync(join(root, 'lib', 'presets.ts'), 'utf8');
  const about = (name) => new RegExp(`/\\*\\* (.*?) \\*/\\s+${name}:`).exec(source)?.[1] ?? '';
  return [
    '| preset | options | paper |',
    '|---|---|---|',
    ...Object.entries(presets).map(([name, preset]) => `| ${name} | ${options(preset)} | ${about(name)} |`),
  ].join('\n');
}

await runAsCommand(import.meta.url, async (argv) => {
  const { presets } = createRequire(import.meta.url)('../dist/cjs/index.js');
  const text = readFileSync(file, 'utf8');
  const [before, rest] = text.split(BEGIN);
  const made = `${before}${BEGIN}\n\n${table(presets)}\n\n${END}${rest.split(END)[1]}`;
  if (made === text) return;
  if (argv.includes('--check')) throw new Error('The presets in docs/losses.md are out of date. Run: node scripts/docs.mjs');
  writeFileSync(file, made);
});
