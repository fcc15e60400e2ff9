// npm run docs: every exported symbol and every option has a docstring; the pages are written.
import { afterAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'fused-grpo api-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the API reference has no gaps, and is written', () => {
  const args = [join(root, 'scripts/api-docs.mjs'), '--out', folder];
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } });
  expect({ status, stderr }).toEqual({ status: 0, stderr: `API reference: ${join(folder, 'index.html')}\n` });
  expect(existsSync(join(folder, 'functions/grpoLoss.html'))).toBe(true);
  expect(readFileSync(join(folder, 'interfaces/GRPOConfig.html'), 'utf8')).toContain('Peak learning rate of AdamW');
});
