// docs/losses.md: its snippets give the numbers that it says, its plots and its table are what the code makes of them.
import { describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as api from '../../lib/index.js';
import { LOSS_OPTIONS, LOSS_TYPES } from '../../lib/ops/config.js';

const root = join(__dirname, '..', '..');
const text = readFileSync(join(root, 'docs', 'losses.md'), 'utf8');
const snippets = [...text.matchAll(/### (.*?)\n[\s\S]*?```js\n([\s\S]*?)\n\/\/ (\S+)\n```/g)].map(([, title, code, value]) => ({
  title: title!,
  code: code!,
  value: Number(value),
}));

describe('docs/losses.md', () => {
  test('has a snippet for every objective', () => expect(snippets.length).toBe(12));

  test.each(snippets)('$title', ({ code, value }) => {
    const given = Object.entries(api);
    // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the documented code, as its reader would run it
    const run = new Function(...given.map(([name]) => name), `return (${code})`) as (...args: unknown[]) => number;
    expect(Math.abs(run(...given.map(([, v]) => v)) - value)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(value)));
  });

  test('names every lossType and every option', () => {
    for (const name of LOSS_TYPES) expect(text).toContain(name);
    const last = (name: string) => name.replace(/^(samplerImportanceSampling|sapoTemperature|vespo|clipCov)(?=[A-Z])/, '');
    for (const name of LOSS_OPTIONS) expect(text.includes(name) || text.includes(last(name))).toBe(true);
  });

  test.each(['plots', 'docs'])('node scripts/%s.mjs --check', (script) => {
    execFileSync(process.execPath, [join(root, 'scripts', `${script}.mjs`), '--check'], { stdio: 'pipe' });
  });
});
