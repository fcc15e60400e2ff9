// The generated parts of docs/: the table of presets in losses.md, trl-config.md, options and figures in ppo.md; and lib/trainer/config-types.ts,
// the options' types with their descriptions, from the tables of options. node scripts/docs.mjs [--check]
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

const CONFIGS = {
  GRPOConfig: [
    'grpoConfigOptions',
    'Options of GRPOTrainer. Names, meanings and defaults are those of GRPOConfig of TRL (docs/trl-config.md), in camelCase.',
  ],
  PPOConfig: ['ppoConfigOptions', 'Options of PPOTrainer: those of GRPOConfig that do not need groups, and those of the critic.'],
  SFTConfig: ['sftConfigOptions', 'Options of SFTTrainer.'],
  RewardConfig: ['rewardConfigOptions', 'Options of RewardTrainer.'],
};
/** What several configs have alike, from the widest on: each has the options that stand in exactly these and continues the one before it. */
const SHARED = {
  TrainingConfig: [['GRPOConfig', 'PPOConfig', 'SFTConfig', 'RewardConfig'], 'Options of every trainer.'],
  PolicyConfig: [['GRPOConfig', 'PPOConfig', 'SFTConfig'], 'Options of the trainers of a policy.'],
  SampledConfig: [['GRPOConfig', 'PPOConfig'], 'Options of the trainers whose policy is rewarded for what it samples.'],
};
const TYPES = { number: 'number', integer: 'number', boolean: 'boolean', string: 'string', numbers: 'number[]', strings: 'string[]' };

/** Bounds and default of an option, as a sentence each. */
function limits(spec) {
  const noun = spec.type === 'integer' ? 'An integer' : 'A number';
  const least = spec.min === undefined ? '' : spec.exclusiveMin ? ` above ${spec.min}` : ` of at least ${spec.min}`;
  const most = spec.max === undefined ? '' : `${least ? ' and' : ''} of at most ${spec.max}`;
  const numeric = spec.type === 'integer' || (spec.type === 'number' && (least || most));
  return [
    ...(numeric ? [`${noun}${least}${most}.`] : []),
    ...(spec.default === undefined ? [] : [`Default ${JSON.stringify(spec.default)}.`]),
  ];
}

/** One interface for each table of options: what an editor shows, and what the reference is made of. */
function configTypes() {
  const tables = load('../dist/cjs/index.js');
  const property = ([name, spec]) => {
    const type = spec.type === 'enum' ? spec.values.map((v) => `'${v}'`).join(' | ') : TYPES[spec.type];
    const text = [spec.description.replace(/([^.:;])$/, '$1.'), ...limits(spec)].join(' ').replaceAll('*/', '*\\/');
    return `  /** ${text} */\n  ${name}?: ${type};`;
  };
  const owners = new Map(); // of each option as it is written
  for (const [name, [table]] of Object.entries(CONFIGS))
    for (const text of Object.entries(tables[table]).map(property)) owners.set(text, [...(owners.get(text) ?? []), name]);
  const optionsOf = (names) => [...owners].filter(([, own]) => own.join() === names.join()).map(([text]) => text);
  const wider = (names) =>
    Object.entries(SHARED).findLast(([, [members]]) => members.length > names.length && names.every((name) => members.includes(name)));
  const one = (name, members, about) => {
    const base = wider(members);
    return `/** ${about} */\nexport interface ${name} ${base ? `extends ${base[0]} ` : ''}{\n${optionsOf(members).join('\n')}\n}`;
  };
  const all = [
    ...Object.entries(SHARED).map(([name, [members, about]]) => one(name, members, about)),
    ...Object.entries(CONFIGS).map(([name, [, about]]) => one(name, [name], about)),
  ];
  const listed = [...Object.values(SHARED).map(([members]) => members.join()), ...Object.keys(CONFIGS)];
  const lost = [...owners.values()].find((own) => !listed.includes(own.join()));
  if (lost) throw new Error(`Options that exactly ${lost.join(', ')} have need an interface in SHARED`);
  return `// Generated from the tables of options: node scripts/docs.mjs\n\n${all.join('\n\n')}\n`;
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
  const types = join(root, 'lib', 'trainer', 'config-types.ts');
  const { format, resolveConfig } = await import('prettier');
  const wanted = await format(configTypes(), { ...(await resolveConfig(types)), parser: 'typescript' });
  if (!existsSync(types) || readFileSync(types, 'utf8') !== wanted) {
    if (argv.includes('--check')) throw new Error('lib/trainer/config-types.ts is out of date. Run: node scripts/docs.mjs');
    writeFileSync(types, wanted);
  }
  for (const { file, marks, make } of PARTS) {
    const text = existsSync(docs(file)) ? readFileSync(docs(file), 'utf8') : marks.join('\n');
    const made = between(text, marks, make());
    if (made === text) continue;
    if (argv.includes('--check')) throw new Error(`docs/${file} is out of date. Run: node scripts/docs.mjs`);
    writeFileSync(docs(file), made);
  }
});
