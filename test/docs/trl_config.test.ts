// docs/trl-config.md and lib/trainer/trl.ts against the fields that TRL's source has.
import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { grpoConfigOptions, resolveGRPOConfig } from '../../lib/trainer/config.js';
import { TRL_NOTES, TRL_REFUSED, TRL_RENAMED, isOff, optionOfTrl, translateTrl } from '../../lib/trainer/trl.js';

const root = join(__dirname, '..', '..');
const { fields } = JSON.parse(readFileSync(join(root, 'test', 'golden', 'trl_config.json'), 'utf8')) as {
  fields: Record<string, { default: unknown; from: string }>;
};
const known = Object.keys(grpoConfigOptions);
const text = readFileSync(join(root, 'docs', 'trl-config.md'), 'utf8');
const camel = (name: string) => name.replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
const refused = Object.keys(fields).filter((field) => optionOfTrl(field, known) === undefined);

test('the list is that of a whole GRPOConfig', () => {
  expect(Object.keys(fields).length).toBeGreaterThan(180);
  for (const name of ['num_generations', 'vllm_mode', 'learning_rate', 'deepspeed', 'loss_type']) expect(fields).toHaveProperty(name);
  expect(fields.learning_rate).toMatchObject({ default: 1e-6, from: 'GRPOConfig' });
});

test('every field is an option or has a reason, and is on the page', () => {
  for (const field of Object.keys(fields)) {
    if (optionOfTrl(field, known) === undefined) expect([field, TRL_REFUSED[field]]).toEqual([field, expect.stringMatching(/\w{3}/)]);
    expect(text).toMatch(new RegExp(`[|,] ${field}[ ,]`));
  }
});

test('the table names nothing that TRL does not have, and every option that it claims is one', () => {
  for (const field of [...Object.keys(TRL_RENAMED), ...Object.keys(TRL_REFUSED), ...Object.keys(TRL_NOTES)])
    expect(Object.keys(fields)).toContain(field);
  for (const name of Object.values(TRL_RENAMED)) expect(known).toContain(name);
  for (const [, name] of text.matchAll(/^\| [a-z]\w+ \| (\w+) \| .* \| .* \|/gm)) expect(known).toContain(name);
});

test("defaults are TRL's, or the page says what differs", () => {
  for (const [field, { default: theirs }] of Object.entries(fields)) {
    const name = optionOfTrl(field, known);
    if (name === undefined) continue;
    const ours = (grpoConfigOptions as Record<string, { default?: unknown }>)[name]!.default ?? null;
    if (JSON.stringify(ours) !== JSON.stringify(theirs)) expect([field, TRL_NOTES[field] ?? 'unsaid']).not.toEqual([field, 'unsaid']);
  }
});

describe('a refused name is an error with its reason', () => {
  test.each(refused)('%s', (field) => {
    for (const name of new Set([field, camel(field)])) {
      let error: unknown;
      try {
        resolveGRPOConfig({ [name]: true });
      } catch (caught) {
        error = caught;
      }
      expect(error).toMatchObject({ code: 'ERR_UNKNOWN_OPTION' });
      expect((error as Error).message).toContain(`'${name}' is an option of TRL's`);
      expect((error as Error).message).toContain(TRL_REFUSED[field]);
    }
  });
});

test('fields of a TRL config file become ours', () => {
  expect(translateTrl('num_generations', 4, known)).toEqual({ name: 'numGenerations', value: 4 });
  expect(translateTrl('scale_rewards', true, known)).toEqual({ name: 'scaleRewards', value: 'group' });
  expect(translateTrl('scale_rewards', false, known)).toEqual({ name: 'scaleRewards', value: 'none' });
  expect(translateTrl('warmup_steps', 0.1, known)).toEqual({ name: 'warmupRatio', value: 0.1 });
  expect(translateTrl('warmup_steps', 10, known)).toEqual({ name: 'warmupSteps', value: 10 });
  expect(translateTrl('resume_from_checkpoint', true, known)).toEqual({ name: 'resume', value: 'auto' });
  expect(translateTrl('vllm_importance_sampling_mode', 'token_mask', known)).toEqual({
    name: 'samplerImportanceSampling',
    value: 'token_mask',
  });
  expect(translateTrl('report_to', ['tensorboard'], known)).toEqual({ name: 'reportTo', value: 'tensorboard' });
  expect(translateTrl('use_vllm', true, known)).toBeUndefined();
  expect([false, null, 'no', 'none', ''].every(isOff)).toBe(true);
  expect([true, 0, 'steps', []].some(isOff)).toBe(false);
});
