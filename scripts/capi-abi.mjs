// The C ABI as data: node scripts/capi-abi.mjs [--write] [HEADER]
// Prints version, layout of every struct (by the compiler), values of enumerators and prototypes of native/capi/fused_grpo.h as JSON.
// --write: into test/capi/abi.json, which the ABI test compares with; refused where the change needs another FG_ABI_VERSION.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SetupError, root } from './deps.mjs';
import { runAsCommand } from './run.mjs';

const HEADER = join(root, 'native/capi/fused_grpo.h');
const SNAPSHOT = join(root, 'test/capi/abi.json');
const squeeze = (text) => text.replace(/\s+/g, ' ').trim();

/** "const float* a, b" -> [{ name, type }]. */
function fieldsOf(declaration) {
  const [, type, names] = /^(.*?[\s*])((?:\w+(?:\[\w+\])?)(?:\s*,\s*\w+)*)$/.exec(squeeze(declaration));
  return names.split(',').map((n) => {
    const [, name, length] = /^\s*(\w+)(\[\w+\])?$/.exec(n);
    return { name, type: squeeze(type).replace(/\s*\*/g, '*') + (length ?? '') };
  });
}

/** What the header declares, without sizes. */
export function parseHeader(text) {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, ' ');
  const structs = {};
  for (const [, body, name] of code.matchAll(/typedef struct \w+ \{([^}]*)\} (\w+);/g))
    structs[name] = body
      .split(';')
      .filter((d) => d.trim())
      .flatMap(fieldsOf);
  const enumerators = [...code.matchAll(/\benum \{([^}]*)\}/g)].flatMap(([, body]) =>
    body.split(',').flatMap((e) => e.trim().match(/^\w+/)?.[0] ?? []),
  );
  const functions = {};
  for (const [, prototype] of code.matchAll(/^FG_API ([^;]*);/gm)) functions[/(\w+)\(/.exec(prototype)[1]] = squeeze(prototype);
  return { structs, enumerators, functions };
}

/** The program that prints sizes and values. */
function probe({ structs, enumerators }) {
  const lines = Object.entries(structs).flatMap(([name, fields]) => [
    `printf("size ${name} %zu\\n", sizeof(${name}));`,
    ...fields.map((f) => `printf("field ${name} ${f.name} %zu %zu\\n", offsetof(${name}, ${f.name}), sizeof(((${name}*)0)->${f.name}));`),
  ]);
  const values = enumerators.map((e) => `printf("enum ${e} %d\\n", (int)${e});`);
  return `#include <stddef.h>\n#include <stdio.h>\n#include "fused_grpo.h"\nint main(void) {\n${[...lines, ...values].join('\n')}
printf("version %d\\n", FG_ABI_VERSION);\nprintf("unset %.17g\\n", FG_UNSET);\nreturn 0;\n}\n`;
}

/** { version, unset, structs: { name: { size, fields: { name: 'offset size type' } } }, enums, functions } */
export function describeAbi(header = HEADER) {
  const text = readFileSync(header, 'utf8');
  const parsed = parseHeader(text);
  const folder = mkdtempSync(join(tmpdir(), 'fg-abi-'));
  try {
    writeFileSync(join(folder, 'fused_grpo.h'), text);
    writeFileSync(join(folder, 'probe.c'), probe(parsed));
    execFileSync(process.env.CC?.trim() || 'cc', ['-std=c99', '-o', join(folder, 'probe'), join(folder, 'probe.c')], { stdio: 'pipe' });
    const out = { version: 0, unset: '', structs: {}, enums: {}, functions: parsed.functions };
    for (const line of execFileSync(join(folder, 'probe'), { encoding: 'utf8' }).trim().split('\n')) {
      const [kind, a, b, c, d] = line.split(' ');
      if (kind === 'version') out.version = Number(a);
      if (kind === 'unset') out.unset = a;
      if (kind === 'size') out.structs[a] = { size: Number(b), fields: {} };
      if (kind === 'field') out.structs[a].fields[b] = `${c} ${d} ${parsed.structs[a].find((f) => f.name === b).type}`;
      if (kind === 'enum') out.enums[a] = Number(b);
    }
    return out;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What programs compiled with `old` would notice: a struct may grow at its end, and names may be added. */
export function incompatibilities(old, now) {
  const found = [];
  for (const [name, was] of Object.entries(old.structs)) {
    const is = now.structs[name];
    if (!is) found.push(`struct ${name} is gone`);
    else if (is.size < was.size) found.push(`struct ${name} shrank from ${was.size} to ${is.size} bytes`);
    for (const [field, place] of Object.entries(is ? was.fields : {}))
      if (is.fields[field] !== place) found.push(`${name}.${field} was '${place}' and is '${is.fields[field]}'`);
    for (const [field, place] of Object.entries(is?.fields ?? {}))
      if (!was.fields[field] && parseInt(place) < was.size) found.push(`${name}.${field} is new and not behind the old end, ${was.size}`);
  }
  for (const kind of ['functions', 'enums'])
    for (const [name, was] of Object.entries(old[kind]))
      if (now[kind][name] !== was) found.push(`${name} was '${was}' and is '${now[kind][name]}'`);
  if (old.unset !== now.unset) found.push(`FG_UNSET was ${old.unset} and is ${now.unset}`);
  return found;
}

/** Why the snapshot and the header do not go together; null when they do. */
export function abiProblem(snapshot, now) {
  if (JSON.stringify(snapshot) === JSON.stringify(now)) return null;
  const broken = incompatibilities(snapshot, now);
  if (broken.length && snapshot.version === now.version)
    return `the ABI changed and FG_ABI_VERSION did not: ${broken.join('; ')}. Raise it, or take the change back.`;
  return 'test/capi/abi.json is out of date: run node scripts/capi-abi.mjs --write';
}

await runAsCommand(import.meta.url, async (argv) => {
  const abi = describeAbi(argv.find((a) => !a.startsWith('--')));
  if (!argv.includes('--write')) return void process.stdout.write(JSON.stringify(abi, null, 1) + '\n');
  let old;
  try {
    old = JSON.parse(readFileSync(SNAPSHOT, 'utf8'));
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  const problem = old && abiProblem(old, abi);
  if (problem?.startsWith('the ABI changed')) throw new SetupError(problem, 'edit native/capi/fused_grpo.h');
  writeFileSync(SNAPSHOT, JSON.stringify(abi, null, 1) + '\n');
});
