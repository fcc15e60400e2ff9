// Every snippet of README.md and docs/ runs as it stands, in a folder that holds what the pages assume, and prints what the page says.
// <!-- test: skip because ... -->  before a block: it is not run; its commands and flags must exist all the same
// <!-- test: with CODE -->           before a js block: what the block takes as given
// <!-- test: output -->            before a text block: what the block before it prints
// A js block that begins with "// name.mjs" is written into the folder under that name, for the commands that follow.
import { afterAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { processContext } from '../../lib/cli/context.js';
import { runCli } from '../../lib/cli/main.js';
import { blocksOf, withImports } from '../support/blocks.js';

const root = join(__dirname, '../..');
/** Pages whose snippets a test of their own runs, on their own terms. */
const ELSEWHERE: Record<string, string> = {
  'docs/embedding.md': 'embedding.test.ts',
  'docs/losses.md': 'losses.test.ts',
  'docs/metrics.md': 'metrics.test.ts',
  'docs/ppo.md': 'ppo.test.ts',
  'docs/recipes.md': 'recipes.test.ts',
  'docs/reward-model.md': 'reward_model.test.ts',
  'docs/rollouts.md': 'rollouts.test.ts',
  'docs/training.md': 'training.test.ts',
};
const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md') && f !== 'LOG.md').map((f) => `docs/${f}`)]; // prettier-ignore

const folders: string[] = [];
afterAll(() => folders.forEach((f) => rmSync(f, { recursive: true, force: true })));

/** A folder as the pages assume it: the package, its demo and examples, a model, prompts. */
function prepared(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fused-grpo docs-'));
  folders.push(folder);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/fused-grpo'));
  for (const name of ['demo', 'examples']) symlinkSync(join(root, name), join(folder, name));
  const model = join(folder, 'SmolLM2-135M-Instruct'); // its architecture, small, with room for 512 new tokens
  cpSync(join(root, 'demo/model'), model, { recursive: true });
  const config = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')) as object;
  writeFileSync(join(model, 'config.json'), JSON.stringify({ ...config, max_position_embeddings: 1024 }));
  // It knows digits and signs alone: whatever else a page says reads as ones.
  const tokenizer = JSON.parse(readFileSync(join(model, 'tokenizer.json'), 'utf8')) as object;
  const normalizer = { type: 'Replace', pattern: { Regex: '[A-Za-z ?]' }, content: '1' };
  writeFileSync(join(model, 'tokenizer.json'), JSON.stringify({ ...tokenizer, normalizer }));
  const rows = Array.from({ length: 16 }, (_, i) => JSON.stringify({ prompt: `${i}+1=`, answer: String(i + 1) }));
  for (const name of ['prompts.jsonl', 'held-out.jsonl']) writeFileSync(join(folder, name), rows.join('\n'));
  writeFileSync(join(folder, 'reward.mjs'), readFileSync(join(root, 'examples/reward.mjs')));
  return folder;
}

function run(folder: string, command: string, args: string[]): string {
  const env = { ...process.env, NODE_OPTIONS: '', OMP_WAIT_POLICY: 'PASSIVE', CLI: join(root, 'scripts/cli.mjs') };
  const { status, signal, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8', env, timeout: 100_000 });
  expect({ status, signal, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  return stdout;
}

const RUN: Record<string, (folder: string, code: string) => string> = {
  js: (folder, code) => {
    const name = /^\/\/ (\w+\.mjs)\n/.exec(code)?.[1];
    const file = join(folder, name ?? 'snippet.mjs');
    writeFileSync(file, withImports(code));
    return run(folder, process.execPath, [file]);
  },
  sh: (folder, code) => run(folder, 'bash', ['-ec', `npx() { shift; node "$CLI" "$@"; }\n${code}`]),
};

/** Commands and flags that a page names exist; placeholders in place of values do no harm. */
async function checkCommands(code: string): Promise<void> {
  for (const line of code.replaceAll('\\\n', ' ').split('\n')) {
    const words = /^npx fused-grpo ([^#|]*)/.exec(line)?.[1]?.trim().split(/\s+/);
    if (!words) continue;
    const name = words.slice(0, words.findIndex((w) => !/^[a-z]+$/.test(w)) >>> 0 || undefined).slice(0, 2);
    let out = '';
    const ctx = { ...processContext(), stdout: { write: (t: string) => (out += t), columns: 400 }, stderr: { write: () => true } };
    expect([line, await runCli([...(name[0] === 'reward' ? name : name.slice(0, 1)), '--help'], ctx)]).toEqual([line, 0]);
    for (const flag of words.filter((w) => /^--[a-z]/.test(w))) expect([line, out.includes(flag.split('=')[0]!)]).toEqual([line, true]);
  }
}

describe.each(pages.filter((page) => !ELSEWHERE[page]))('%s', (page) => {
  const blocks = blocksOf(readFileSync(join(root, page), 'utf8'));
  if (blocks.length === 0) return test('has no snippets', () => undefined);
  const folder = prepared();
  let printed = '';
  test.each(blocks.map((b) => [`${b.language || 'block'} at line ${b.line}`, b] as const))(
    '%s',
    async (_, { language, code, directive }) => {
      if (language === 'text' || language === '') {
        if (directive === 'output') expect(printed).toBe(code);
        return;
      }
      const given = /^with (.*)/.exec(directive)?.[1];
      if (directive && given === undefined) expect(directive).toMatch(/^skip because .{10}/);
      if (language === 'sh') await checkCommands(code);
      if ((!directive || given) && RUN[language]) printed = RUN[language](folder, given ? `${given}\n${withImports(code)}` : code);
      else if (!directive) expect(['json', 'yaml', 'cmake', 'ts']).toContain(language); // read by what stands beside them; ts: compiled by test/types
      const [before, after] = [...printed.matchAll(/^ {2}greedy +([\d.]+) %/gm)].map(([, share]) => Number(share));
      if (language === 'sh' && after !== undefined) expect(after).toBeGreaterThan(before! + 10); // it was evaluated, trained, evaluated
    },
  );
});

test('pages that are tested elsewhere are', () => {
  for (const [page, file] of Object.entries(ELSEWHERE)) {
    const text = readFileSync(join(__dirname, file), 'utf8');
    expect([page, text.includes(page.replace('docs/', ''))]).toEqual([page, true]);
  }
});

test('every page is one that the index names, and every link leads somewhere', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  for (const page of pages.slice(1)) expect([page, readme.includes(`(${page})`)]).toEqual([page, true]);
  for (const page of pages)
    for (const [, target] of readFileSync(join(root, page), 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g))
      expect([page, target, spawnSync('test', ['-e', join(root, page, '..', target!)]).status]).toEqual([page, target, 0]);
});

test('troubleshooting.md explains every code, and no other', () => {
  const known = new Set([...readFileSync(join(root, 'lib/errors.ts'), 'utf8').matchAll(/'(ERR_\w+)'/g)].map(([, code]) => code!));
  const told = new Set([...readFileSync(join(root, 'docs/troubleshooting.md'), 'utf8').matchAll(/`(ERR_\w+)`/g)].map(([, code]) => code!));
  expect([...told].sort()).toEqual([...known].sort());
});
