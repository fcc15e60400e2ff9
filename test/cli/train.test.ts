import { expect, test } from '@jest/globals';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCli } from '../../lib/cli/main.js';
import { FusedGrpoError } from '../../lib/errors.js';
import { fake, trainArgs, type Script } from './fake.js';

test('a run: options reach the trainer, the report is written, exit 0', async () => {
  const script: Script = { steps: 12 };
  const f = fake(script);
  expect(await runCli(trainArgs('--learning-rate', '1e-3', '--no-fused'), f.ctx)).toBe(0);
  expect(script.seen!.config).toEqual({ learningRate: 1e-3, fused: false, outputDir: join(f.folder, 'run') });
  expect(script.seen!.model).toBe(join(f.folder, 'model'));
  expect(script.seen!.rewardFuncs).toHaveLength(1);
  expect(script.disposed).toBe(true);
  expect(readFileSync(join(f.folder, 'run', 'report.html'), 'utf8')).toContain('GRPO training run');
  expect(f.out()).toBe('');
  expect(f.err()).toMatch(/train 12\/12 reward/);
  expect(f.err()).toContain('Report: ');
  expect(f.listeners()).toBe(0);
});

test('--json prints one JSON object on stdout and nothing else there', async () => {
  const f = fake({ steps: 2 });
  expect(await runCli(trainArgs('--json'), f.ctx)).toBe(0);
  expect(JSON.parse(f.out())).toMatchObject({ status: 'ok', steps: 2, output: join(f.folder, 'run'), metrics: { step: 2 } });
});

test('the command line overrides the config file, which overrides the preset', async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  writeFileSync(
    join(f.folder, 'run.json'),
    JSON.stringify({
      preset: 'grpo',
      model: 'model',
      data: 'prompts.jsonl',
      reward: 'reward.mjs',
      output: 'run',
      learningRate: 5,
      beta: 0.5,
    }),
  );
  expect(await runCli(['train', '--config', 'run.json', '--learning-rate', '7'], f.ctx)).toBe(0);
  expect(script.seen!.config).toMatchObject({ lossType: 'grpo', beta: 0.5, learningRate: 7 });
});

test("a trainer's own config.json is accepted as --config", async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  writeFileSync(
    join(f.folder, 'c.json'),
    JSON.stringify({
      trainer: 'grpo',
      model: 'model',
      trainDataset: 'prompts.jsonl',
      outputDir: 'again',
      stepCompletions: 8,
      rolloutCompletions: 8,
      beta: 1,
    }),
  );
  expect(await runCli(['train', '--config', 'c.json', '--reward', 'reward.mjs'], f.ctx)).toBe(0);
  expect(script.seen!.config).toEqual({ beta: 1, outputDir: join(f.folder, 'again') });
});

const badConfigs: [string, string][] = [
  ['{"learningRat": 1}', 'unknown option "learningRat"; did you mean "learningRate"?'],
  ['{"a": 1,\n"b" 2}', 'line 2'],
  ['[1]', 'must hold one JSON object'],
  ['{"model": 3}', '"model" must be a string'],
];
test.each(badConfigs)('config file %s is refused with exit 2', async (text, message) => {
  const f = fake();
  writeFileSync(join(f.folder, 'bad.json'), text);
  expect(await runCli(trainArgs('--config', 'bad.json'), f.ctx)).toBe(2);
  expect(f.err()).toContain('bad.json');
  expect(f.err()).toContain(message);
});

const badUsage: [string[], string][] = [
  [['train'], "'train' needs --model DIR"],
  [trainArgs('--model', 'nowhere'), '--model: there is no folder nowhere'],
  [trainArgs('--model', 'prompts.jsonl'), '--model: prompts.jsonl is a file; a folder is needed'],
  [trainArgs('--data', 'nowhere.jsonl'), '--data: there is no file nowhere.jsonl'],
  [trainArgs('--reward', 'nowhere.mjs'), '--reward: there is no file nowhere.mjs'],
  [trainArgs('--config', 'nowhere.json'), '--config: nowhere.json cannot be read (ENOENT)'],
  [trainArgs('--preset', 'dap'), 'Expected one of grpo, deepseekR1'],
  [trainArgs('--output-dir', 'x'), 'Unknown option --output-dir'],
  [trainArgs('--max-steps', '0'), 'maxSteps may not be 0'],
];
test.each(badUsage)('%j: exit 2', async (argv, message) => {
  const f = fake();
  expect(await runCli(argv, f.ctx)).toBe(2);
  expect(f.err()).toContain(message);
  expect(f.err().trim().split('\n')).toHaveLength(1); // one paragraph, no stack
});

test('--rollout: the function and its syncWeights reach the trainer; a dry run loads it, too', async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  const [rollout, syncWeights] = [() => [], { hook: () => undefined }];
  writeFileSync(join(f.folder, 'rollout.mjs'), '');
  const given = f.ctx.importModule.bind(f.ctx);
  f.ctx.importModule = (file) => (file.endsWith('rollout.mjs') ? Promise.resolve({ default: rollout, syncWeights }) : given(file));
  expect(await runCli(trainArgs('--rollout', 'rollout.mjs'), f.ctx)).toBe(0);
  expect(script.seen).toMatchObject({ rollout, syncWeights });
  f.ctx.importModule = (file) => (file.endsWith('rollout.mjs') ? Promise.resolve({ rollout }) : given(file));
  for (const more of [[], ['--dry-run']]) {
    expect(await runCli(trainArgs('--rollout', 'rollout.mjs', ...more), f.ctx)).toBe(2);
    expect(f.err()).toContain('--rollout: rollout.mjs has no rollout function; export default async');
    expect(await runCli(trainArgs('--rollout', 'none.mjs', ...more), f.ctx)).toBe(2);
    expect(f.err()).toContain('--rollout: there is no file none.mjs');
  }
});

test('--rollout-urls: a rollout function that brings syncWeights; wrong uses are told', async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  const servers = ['--rollout-urls', 'http://a:8000, http://b:8000'];
  expect(await runCli(trainArgs(...servers, '--rollout-model', 'policy', '--rollout-every', '3'), f.ctx)).toBe(0);
  expect(script.seen).toMatchObject({ rollout: expect.any(Function) });
  expect((script.seen as unknown as { rollout: { syncWeights: object } }).rollout.syncWeights).toMatchObject({ every: 3 });
  expect(await runCli(trainArgs(...servers, '--rollout-reload', 'none'), f.ctx)).toBe(0);
  expect((script.seen as unknown as { rollout: { syncWeights?: object } }).rollout.syncWeights).toBeUndefined();
  const wrong: [string[], string][] = [
    [['--rollout-model', 'policy'], '--rollout-model belongs to --rollout-urls'],
    [[...servers, '--rollout', 'rollout.mjs'], '--rollout and --rollout-urls are two ways'],
    [['--rollout-urls', 'a:8000', '--dry-run'], "Expected addresses like 'http://127.0.0.1:8000' for urls"],
    [[...servers, '--rollout-server', 'llama.cpp'], 'cannot load weights while it runs'],
  ];
  for (const [argv, message] of wrong) {
    expect(await runCli(trainArgs(...argv), f.ctx)).toBe(2);
    expect(f.err()).toContain(message);
  }
});

test('Ctrl-C: the signal is aborted, the report is written, exit 130; a second one exits at once', async () => {
  const f = fake({ steps: 10, onStep: (step) => step === 4 && (f.interrupt(), f.interrupt()) });
  expect(await runCli(trainArgs('--json'), f.ctx)).toBe(130);
  expect(f.exits).toEqual([130]);
  expect(JSON.parse(f.out())).toMatchObject({ status: 'interrupted', steps: 4 });
  expect(readFileSync(join(f.folder, 'run', 'report.html'), 'utf8')).toContain('Interrupted after step 4.');
  expect(f.err()).toContain('--resume auto');
  expect(f.listeners()).toBe(0);
});

test('an interrupt after the last step still counts', async () => {
  const f = fake({ steps: 2, onStep: (step) => step === 2 && f.interrupt() });
  expect(await runCli(trainArgs(), f.ctx)).toBe(130);
});

const failures: [string, Error, number][] = [
  ['reward', new FusedGrpoError('ERR_REWARD', "Reward function 'r' threw: boom"), 1],
  ['data', new FusedGrpoError('ERR_DATA', 'prompts.jsonl:3: not JSON'), 2],
  ['disk', new FusedGrpoError('ERR_IO', 'the disk is full'), 1],
  ['unknown', new Error('surprise'), 1],
];
test.each(failures)('a run that fails (%s): message, report, exit code', async (_, error, code) => {
  const f = fake({ steps: 5, failAt: { step: 3, error } });
  expect(await runCli(trainArgs(), f.ctx)).toBe(code);
  expect(f.err()).toContain(`fused-grpo: ${error.message}`);
  expect(f.err()).not.toContain('    at ');
  expect(readFileSync(join(f.folder, 'run', 'report.html'), 'utf8')).toContain('The run failed');
});

test('a run that fails before its first step writes no report', async () => {
  const f = fake({ steps: 5, failAt: { step: 1, error: new FusedGrpoError('ERR_MODEL', 'no config.json') } });
  expect(await runCli(trainArgs(), f.ctx)).toBe(2);
  expect(existsSync(join(f.folder, 'run', 'report.html'))).toBe(false);
});

test('FUSED_GRPO_DEBUG=1 shows the stack', async () => {
  const f = fake({ steps: 5, failAt: { step: 2, error: new Error('surprise') } }, { env: { FUSED_GRPO_DEBUG: '1' } });
  expect(await runCli(trainArgs(), f.ctx)).toBe(1);
  expect(f.err()).toContain('    at ');
});

test('sft runs by the same rules', async () => {
  const script: Script = { steps: 2 };
  const f = fake(script);
  expect(
    await runCli(['sft', '--model', 'model', '--data', 'prompts.jsonl', '--output', 'run', '--learning-rate', '1e-3', '--json'], f.ctx),
  ).toBe(0);
  expect(script.seen!.config.learningRate).toBe(1e-3);
  expect(JSON.parse(f.out())).toMatchObject({ status: 'ok', steps: 2 });
});

test('--column renames columns; a config file says it as a list or as an object', async () => {
  const mapping = { prompt: 'question', answer: 'meta.solution' };
  const script: Script = { steps: 1 };
  const f = fake(script);
  expect(await runCli(trainArgs('--column', 'prompt=question', '--column', 'answer=meta.solution'), f.ctx)).toBe(0);
  expect(script.seen!.columnMapping).toEqual(mapping);
  for (const [name, value] of Object.entries({ column: ['prompt=question', 'answer=meta.solution'], columnMapping: mapping })) {
    writeFileSync(join(f.folder, 'c.json'), JSON.stringify({ [name]: value }));
    script.seen = undefined;
    expect(await runCli(trainArgs('--config', 'c.json'), f.ctx)).toBe(0);
    expect(script.seen!.columnMapping).toEqual(mapping);
  }
  for (const [bad, message] of [
    ['question', '--column question: expected our name, =,'],
    ['=x', 'expected our name'],
  ])
    expect([await runCli(trainArgs('--column', bad!), f.ctx), f.err()]).toEqual([2, expect.stringContaining(message!)]);
});

test('a model of the hub is fetched before the run, with its progress shown, and is the name that the trainer gets', async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  const progress = { model: 'org/name', revision: 'v1', url: 'http://hub', folder: '/cache/x', files: 2, totalBytes: 3e6 };
  f.ctx.api.hub = () => ({
    resolveModel: async (_name, options) => {
      options!.onDownload!({ ...progress, bytes: 0 });
      for (let bytes = 0; bytes <= 3e6; bytes += 1e5) options!.onDownload!({ ...progress, file: 'model.safetensors', bytes });
      return '/cache/x';
    },
  });
  expect(await runCli(trainArgs('--model', 'org/name@v1'), f.ctx)).toBe(0);
  expect(script.seen!.model).toBe('org/name@v1');
  expect(f.err()).toContain('Fetching org/name@v1 from http://hub: 2 files, 3.0 MB, into /cache/x\n');
  expect(f.err().match(/ %/g)).toHaveLength(10);
  expect(f.err()).toContain('100 % (3.0 MB of 3.0 MB): model.safetensors');
});

const TRL_YAML = `# as written for TRL
learning_rate: 1e-3
num_generations: 4
loss_type: grpo
output_dir: run
use_vllm: false   # left out, and said so
reward_weights: [1, 0.5]
`;

test('a YAML file, with our names or with TRL’s, which are said to be understood', async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  writeFileSync(join(f.folder, 'trl.yaml'), TRL_YAML);
  expect(
    await runCli(
      [...trainArgs('--config', 'trl.yaml')].filter((a) => a !== '--output' && a !== 'run'),
      f.ctx,
    ),
  ).toBe(0);
  const expected = { learningRate: 1e-3, numGenerations: 4, lossType: 'grpo', rewardWeights: [1, 0.5], outputDir: join(f.folder, 'run') };
  expect(script.seen!.config).toEqual(expected);
  expect(f.err()).toContain("trl.yaml: TRL's names are understood: learning_rate = learningRate, num_generations = numGenerations,");
  expect(f.err()).toContain('use_vllm left out');
  writeFileSync(join(f.folder, 'ours.yml'), 'learningRate: 0.5\nmaxSteps: 3\ncolumn:\n  prompt: question\n');
  expect(await runCli(trainArgs('--config', 'ours.yml'), f.ctx)).toBe(0);
  expect(script.seen).toMatchObject({ config: { learningRate: 0.5, maxSteps: 3 }, columnMapping: { prompt: 'question' } });
});

test.each([
  ['learning_rat: 1', 'bad.yaml: unknown option "learning_rat"; did you mean "learningRate"?'],
  ['use_vllm: true', 'bad.yaml: "use_vllm" is an option of TRL\'s that is not there. There is no vLLM'],
  ['deepspeed: ds.json', '"deepspeed" is an option of TRL\'s that is not there. Ranks train data parallel'],
  ['beta: 1\n  x: [', 'bad.yaml is not YAML'],
  ['- 1\n- 2', 'bad.yaml must hold names and values'],
  ['learning_rate: 1\nlearningRate: 2\nlearning_rate: 3', 'is not YAML'],
  ['beta: 1\nbeta: 2', '(line 2)'],
  ['learning_rate: 1\nlearningRate: 2', 'learningRate is given twice'],
  ['learningRate: 1\nlearning_rate: 2', 'learningRate is given twice'],
])('YAML %j is refused with exit 2', async (text, message) => {
  const f = fake();
  writeFileSync(join(f.folder, 'bad.yaml'), text);
  expect(await runCli(trainArgs('--config', 'bad.yaml'), f.ctx)).toBe(2);
  expect(f.err()).toContain(message);
});

test('a TRL option on the command line is refused with the reason', async () => {
  const f = fake();
  expect(await runCli(trainArgs('--use-vllm'), f.ctx)).toBe(2);
  expect(f.err()).toContain("--use-vllm is an option of TRL's that is not there. There is no vLLM");
});
