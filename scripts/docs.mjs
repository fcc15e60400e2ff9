// The generated parts of docs/: the table of presets in losses.md, trl-config.md, options and figures in ppo.md. node scripts/docs.mjs [--check]
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { algorithmsResult, algorithmsTables } from './algorithms-figures.mjs';
import { root } from './deps.mjs';
import { runAsCommand } from './run.mjs';

const load = createRequire(import.meta.url);
const docs = (name) => join(root, 'docs', name);

function presetTable() {
  const { presets } = load('../dist/cjs/index.js');
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

/** `text` with the part between two markers replaced. */
function between(text, [begin, end], made) {
  const [before, rest] = text.split(begin);
  return `${before}${begin}\n\n${made}\n\n${end}${rest.split(end)[1]}`;
}

const shown = (value) => (value === undefined ? '' : `\`${JSON.stringify(value)}\``.replaceAll('|', '\\|'));

function trlTables() {
  const { grpoConfigOptions } = load('../dist/cjs/index.js');
  const { TRL_NOTES, TRL_REFUSED, optionOfTrl } = load('../dist/cjs/trainer/trl.js');
  const { versions, fields } = JSON.parse(readFileSync(join(root, 'test', 'golden', 'trl_config.json'), 'utf8'));
  const known = Object.keys(grpoConfigOptions);
  const names = Object.keys(fields);
  const [ours, refused] = [names.filter((f) => optionOfTrl(f, known)), names.filter((f) => !optionOfTrl(f, known))];
  const row = (field) => {
    const name = optionOfTrl(field, known);
    return `| ${field} | ${name} | ${shown(fields[field].default)} | ${shown(grpoConfigOptions[name].default)} | ${TRL_NOTES[field] ?? ''} |`;
  };
  const reasons = group(refused, (f) => TRL_REFUSED[f]);
  const extra = known.filter((name) => !ours.some((f) => optionOfTrl(f, known) === name));
  return [
    `TRL ${versions.trl} with transformers ${versions.transformers}: ${names.length} fields, ${ours.length} of them options here.`,
    '',
    '## Options',
    '',
    "| TRL's field | ours | TRL's default | ours | |",
    '|---|---|---|---|---|',
    ...ours.map(row),
    '',
    '## Refused, and why',
    '',
    '| fields | reason |',
    '|---|---|',
    ...[...reasons].map(([reason, list]) => `| ${list.join(', ')} | ${reason} |`),
    '',
    '## Options that TRL has not',
    '',
    ...extra.map((name) => `* \`${name}\`: ${grpoConfigOptions[name].description}`),
  ].join('\n');
}

function group(list, keyOf) {
  const groups = new Map();
  for (const item of list) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

/** Options that PPOConfig adds to GRPOConfig, or has with another default. */
function ppoOptions() {
  const { ppoConfigOptions, grpoConfigOptions } = load('../dist/cjs/index.js');
  const own = Object.entries(ppoConfigOptions).filter(
    ([name, { default: value }]) => !(name in grpoConfigOptions) || grpoConfigOptions[name].default !== value,
  );
  return [
    '| option | default | |',
    '|---|---|---|',
    ...own.map(([name, option]) => `| \`${name}\` | ${shown(option.default)} | ${option.description} |`),
  ].join('\n');
}

const PARTS = [
  { file: 'losses.md', marks: ['<!-- presets: node scripts/docs.mjs -->', '<!-- end of presets -->'], make: presetTable },
  { file: 'trl-config.md', marks: ['<!-- table: node scripts/docs.mjs -->', '<!-- end of table -->'], make: trlTables },
  { file: 'ppo.md', marks: ['<!-- options: node scripts/docs.mjs -->', '<!-- end of options -->'], make: ppoOptions },
  {
    file: 'ppo.md',
    marks: ['<!-- figures: node scripts/docs.mjs -->', '<!-- end of figures -->'],
    make: () => algorithmsTables(algorithmsResult()),
  },
];

await runAsCommand(import.meta.url, async (argv) => {
  for (const { file, marks, make } of PARTS) {
    const text = existsSync(docs(file)) ? readFileSync(docs(file), 'utf8') : marks.join('\n');
    const made = between(text, marks, make());
    if (made === text) continue;
    if (argv.includes('--check')) throw new Error(`docs/${file} is out of date. Run: node scripts/docs.mjs`);
    writeFileSync(docs(file), made);
  }
});
