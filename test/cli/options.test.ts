import { describe, expect, test } from '@jest/globals';
import { camel, flagHelp, kebab, parseFlags, requireFlags, wrap } from '../../lib/cli/options.js';
import { sampleOptions } from './fake.js';

const table = { ...sampleOptions, prompt: { type: 'string', multiple: true, required: true, description: 'The prompt' } } as const;
const parse = (...argv: string[]) => parseFlags('train', table, argv);

test('names in both spellings', () => {
  expect(kebab('learningRate')).toBe('learning-rate');
  expect(camel('learning-rate')).toBe('learningRate');
  for (const name of Object.keys(sampleOptions)) expect(camel(kebab(name))).toBe(name);
});

test('every type', () => {
  const argv = [
    '--learning-rate',
    '1e-4',
    '--num-generations=4',
    '--no-fused',
    '--loss-type',
    'grpo',
    '--reward-weights',
    '1,-0.5',
    '--prompt',
    'a',
    '--prompt',
    'b',
  ];
  expect(parse(...argv)).toEqual({
    learningRate: 1e-4,
    numGenerations: 4,
    fused: false,
    lossType: 'grpo',
    rewardWeights: [1, -0.5],
    prompt: ['a', 'b'],
  });
});

test('lists of texts', () => {
  const table = { targets: { type: 'strings', description: 'Modules' } } as const;
  expect(parseFlags('train', table, ['--targets', 'q_proj,v_proj'])).toEqual({ targets: ['q_proj', 'v_proj'] });
  expect(parseFlags('train', table, ['--targets=all-linear'])).toEqual({ targets: ['all-linear'] });
  expect(() => parseFlags('train', table, ['--targets', 'a,,b'])).toThrow('Expected texts separated by commas for --targets');
  expect(flagHelp(table)).toContain('--targets A,B,…');
});

test('what is absent was not given', () => expect(parse()).toEqual({}));

test('negative numbers, camelCase and snake_case are understood', () => {
  expect(parse('--max-steps', '-1')).toEqual({ maxSteps: -1 });
  expect(parse('--learningRate', '0.1')).toEqual({ learningRate: 0.1 });
  expect(parse('--learning_rate=0.1')).toEqual({ learningRate: 0.1 });
});

test('booleans in all spellings', () => {
  expect(parse('--fused')).toEqual({ fused: true });
  expect(parse('--fused=false')).toEqual({ fused: false });
  expect(parse('--fused', 'false', '--beta', '1')).toEqual({ fused: false, beta: 1 });
  expect(() => parse('--fused=perhaps')).toThrow('Expected true or false for --fused but received "perhaps"');
});

test('the last of two values counts', () => expect(parse('--beta', '1', '--beta', '2')).toEqual({ beta: 2 }));

describe('mistakes name the option', () => {
  const cases: [string[], string, string][] = [
    [['--learning-rat', '1'], 'ERR_UNKNOWN_OPTION', "Unknown option --learning-rat of 'train'; did you mean --learning-rate?"],
    [['--zzzzzzzzz'], 'ERR_UNKNOWN_OPTION', "Unknown option --zzzzzzzzz of 'train'; `fused-grpo train --help` lists them"],
    [['--no-beta'], 'ERR_UNKNOWN_OPTION', 'Unknown option --no-beta'],
    [['--learning-rate', 'fast'], 'ERR_INVALID_ARG', 'Expected a number of at least 0 for --learning-rate but received "fast"'],
    [['--learning-rate', ''], 'ERR_INVALID_ARG', '--learning-rate'],
    [['--num-generations', '1'], 'ERR_INVALID_ARG', 'Expected an integer of at least 2 for --num-generations but received 1'],
    [['--num-generations', '2.5'], 'ERR_INVALID_ARG', 'Expected an integer of at least 2 for --num-generations but received 2.5'],
    [['--loss-type', 'ppo'], 'ERR_INVALID_ARG', 'Expected one of grpo, dapo for --loss-type but received "ppo"'],
    [['--reward-weights', '1,x'], 'ERR_INVALID_ARG', 'Expected a number for --reward-weights but received "x"'],
    [['--beta'], 'ERR_INVALID_ARG', 'Option --beta needs a value'],
    [['--prompt', '--beta', '1'], 'ERR_INVALID_ARG', 'Option --prompt needs a value'],
    [['stray'], 'ERR_INVALID_ARG', "Unexpected argument 'stray'"],
    [['-x'], 'ERR_UNKNOWN_OPTION', 'Unknown option --x'],
  ];
  test.each(cases)('%j', (argv, code, message) => {
    let error: unknown;
    try {
      parse(...argv);
    } catch (caught) {
      error = caught;
    }
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

test('a value may begin with dashes when it is attached', () => expect(parse('--prompt=--x')).toEqual({ prompt: ['--x'] }));

test('required flags', () => {
  expect(() => requireFlags('generate', table, {})).toThrow("'generate' needs --prompt VALUE (the prompt)");
  expect(() => requireFlags('generate', table, { prompt: ['x'] })).not.toThrow();
});

test('help names every flag, its values and its default, within the width', () => {
  const help = flagHelp(table, 80);
  for (const name of Object.keys(table)) expect(help).toContain(kebab(name));
  expect(help).toContain('--[no-]fused');
  expect(help).toContain('grpo | dapo; default dapo');
  for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
});

test('wrap keeps all words', () => expect(wrap('a bb ccc dddd', 5, '  ')).toBe('a bb\n  ccc\n  dddd'));
