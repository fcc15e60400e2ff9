// docs/recipes.md: every snippet gives what it says, every command runs as it stands; slow: every recipe improves the bundled model.
import { afterAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { processContext } from '../../lib/cli/context.js';
import { runCli } from '../../lib/cli/main.js';
import { builtInRewards } from '../../lib/cli/reward-names.js';
import { grpoConfigOptions } from '../../lib/index.js';
import * as api from '../../lib/index.js';

const root = join(__dirname, '..', '..');
const text = readFileSync(join(root, 'docs', 'recipes.md'), 'utf8');
const blocks = (language: string) => [...text.matchAll(new RegExp('```' + language + '\\n([\\s\\S]*?)```', 'g'))].map(([, code]) => code!);
const slow = process.env.FUSED_GRPO_SLOW_TESTS === '1';

/** A folder as the page assumes it: the model, the data, small.json. */
const folder = mkdtempSync(join(tmpdir(), 'recipes-docs-'));
symlinkSync(join(root, 'demo'), join(folder, 'demo'));
const [makeData = '', ...commands] = blocks('sh').flatMap((code) => code.trim().split('\n'));
writeFileSync(join(folder, 'sums.jsonl'), execFileSync(process.execPath, [join(root, 'examples', 'sums.mjs')]));
writeFileSync(join(folder, 'small.json'), blocks('json')[0]!);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a command of the page; the rewards of its steps. */
async function run(command: string, ...more: string[]): Promise<number[]> {
  const [npx, name, ...argv] = command.split(' ');
  expect([npx, name]).toEqual(['npx', 'fused-grpo']);
  let err = '';
  const ctx = { ...processContext(), cwd: folder, stdout: { write: () => true }, stderr: { write: (t: string) => (err += t) } };
  const output = argv[argv.indexOf('--output') + 1]!;
  rmSync(join(folder, output), { recursive: true, force: true });
  const code = await runCli([...argv, ...more], ctx);
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
  const lines = readFileSync(join(folder, output, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n');
  return lines.map((line) => (JSON.parse(line) as { reward: number }).reward);
}

describe('docs/recipes.md', () => {
  const snippets = blocks('js').map((code) => /^([\s\S]*?)\n\/\/ (.*)\n$/.exec(code)!.slice(1) as [string, string]);

  test('has snippets and commands', () => {
    expect(snippets.length).toBe(4);
    expect(makeData).toBe('node examples/sums.mjs > sums.jsonl');
    expect(commands.length).toBe(7);
  });

  test.each(snippets.map(([code, value], i) => ({ i, code, value })))('snippet $i', async ({ code, value }) => {
    const given = Object.entries(api);
    const inFolder = (path: string) => JSON.stringify(join(folder, path));
    const lines = code.replace("'demo/model'", inFolder('demo/model')).replace("'sums.jsonl'", inFolder('sums.jsonl')).split('\n');
    const last = lines.findLastIndex((line) => /^(await |\[|Object\.)/.test(line)); // the statement that has the value
    const body = `return (async () => { ${lines.slice(0, last).join('\n')}\nreturn (${lines.slice(last).join('\n')}\n); })()`;
    // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the documented code, as its reader would run it
    const run = new Function(...given.map(([name]) => name), body) as (...args: unknown[]) => Promise<unknown>;
    expect(JSON.stringify(await run(...given.map(([, v]) => v)))).toBe(value);
  });

  test.each(commands)('%s (two steps)', async (command) => {
    expect(await run(command, '--max-steps', '2', '--per-device-train-batch-size', '64')).toHaveLength(2);
  });

  test('names every built-in reward and every option of reward calls', () => {
    for (const name of builtInRewards) expect(text).toContain('`' + name + '`');
    for (const name of Object.keys(grpoConfigOptions).filter((n) => /^reward(?!Weights|Model)/.test(n))) expect(text).toContain('`' + name);
  });
});

const group = slow ? describe : describe.skip;
group('every recipe improves the bundled model' + (slow ? '' : ' (skipped: minutes of training; FUSED_GRPO_SLOW_TESTS=1 runs it)'), () => {
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  test.each(commands)(
    '%s',
    async (command) => {
      const rewards = await run(command);
      expect(mean(rewards.slice(-8))).toBeGreaterThan(mean(rewards.slice(0, 8)) + 0.05);
    },
    600_000,
  );
});
