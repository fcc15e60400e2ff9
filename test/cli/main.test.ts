import { expect, test } from '@jest/globals';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { runCli } from '../../lib/cli/main.js';
import { exitCodeOf } from '../../lib/cli/errors.js';
import type { Check } from '../../lib/cli/doctor.js';
import { fake } from './fake.js';

const cli = join(__dirname, '../../scripts/cli.mjs');

test('--help, --version and every command help', async () => {
  const f = fake();
  expect(await runCli(['--help'], f.ctx)).toBe(0);
  expect(f.out()).toMatch(/Exit codes/);
  for (const name of ['train', 'generate', 'sft', 'merge', 'demo', 'bench', 'doctor', 'build']) {
    const g = fake();
    expect(f.out()).toContain(`  ${name} `);
    expect(await runCli([name, '--help'], g.ctx)).toBe(0);
    expect(g.out()).toContain('Example');
    expect(g.out()).toContain(`npx fused-grpo ${name}`);
    const h = fake();
    expect(await runCli(['help', name], h.ctx)).toBe(0);
    expect(h.out()).toBe(g.out());
  }
  const v = fake();
  expect(await runCli(['--version'], v.ctx)).toBe(0);
  expect(v.out()).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test("train's help shows the trainer's table", async () => {
  const f = fake();
  await runCli(['train', '--help'], f.ctx);
  expect(f.out()).toContain('--num-generations N');
  expect(f.out()).not.toContain('--output-dir');
});

test('no command and unknown commands: exit 2', async () => {
  const f = fake();
  expect(await runCli([], f.ctx)).toBe(2);
  expect(f.out()).toBe('');
  expect(await runCli(['trian'], f.ctx)).toBe(2);
  expect(f.err()).toContain("Unknown command 'trian'; did you mean 'train'?");
});

test('exit codes of errors', () => {
  const code = (code: string) => exitCodeOf(Object.assign(new Error('x'), { code }));
  const usage = [
    'ERR_INVALID_ARG',
    'ERR_UNKNOWN_OPTION',
    'ERR_INCOMPATIBLE_OPTIONS',
    'ERR_DATA',
    'ERR_MODEL',
    'ERR_TOKENIZER',
    'ERR_NO_CUDA',
    'ERR_CONTEXT_LENGTH',
  ];
  expect(usage.map(code)).toEqual(usage.map(() => 2));
  expect(['ERR_REWARD', 'ERR_IO', 'ERR_TRAINING', 'ERR_NOT_BUILT', 'ENOENT'].map(code)).toEqual([1, 1, 1, 1, 1]);
  expect(code('ERR_ABORTED')).toBe(130);
  expect(exitCodeOf(new DOMException('x', 'AbortError'))).toBe(130);
  expect(exitCodeOf('text')).toBe(1);
});

test('generate: text, JSON, and a prompt from standard input', async () => {
  const plain = fake();
  expect(await runCli(['generate', '--model', 'model', '--prompt', '1+1='], plain.ctx)).toBe(0);
  expect(plain.out()).toBe('two\n');
  const json = fake();
  expect(await runCli(['generate', '--model', 'model', '--prompt', '-', '--json'], json.ctx)).toBe(0);
  expect(JSON.parse(json.out())).toEqual({
    completions: [{ promptIndex: 0, prompt: 'from stdin', text: 'two', finishReason: 'stop', tokens: [1, 2], logps: [-0.5, -1] }],
  });
});

test('generate passes sampling options on, and disposes of the model', async () => {
  const f = fake();
  let options: Record<string, unknown> = {};
  let disposed = 0;
  f.ctx.api.policy = () => ({
    Policy: {
      load: async () => ({
        generate: async (_prompts, given) => ((options = given as Record<string, unknown>), Promise.reject(new Error('no'))),
        dispose: () => void ++disposed,
      }),
    },
  });
  expect(
    await runCli(['generate', '--model', 'model', '--prompt', 'x', '--stop', 'a', '--stop', 'b', '--seed', '3', '--top-p', '0.9'], f.ctx),
  ).toBe(1);
  expect(options).toMatchObject({ numGenerations: 1, stop: ['a', 'b'], seed: 3, topP: 0.9 });
  expect(options.maxNewTokens).toBeUndefined(); // the policy decides: 256, or what the context leaves
  expect(options).not.toHaveProperty('topK');
  expect(disposed).toBe(1);
});

test('control characters of a completion do not reach a terminal', async () => {
  const f = fake();
  f.ctx.stdout.isTTY = true;
  f.ctx.api.policy = () => ({
    Policy: {
      load: async () => ({
        generate: async () => ({
          completions: [
            {
              promptIndex: 0,
              text: 'a\x1b[2Jb\tc\n',
              tokens: new Int32Array(1),
              logps: new Float32Array(1),
              finishReason: 'stop' as const,
            },
          ],
        }),
        dispose: () => undefined,
      }),
    },
  });
  await runCli(['generate', '--model', 'model', '--prompt', 'x'], f.ctx);
  expect(f.out()).toBe('a\ufffd[2Jb\tc\n\n');
});

test('demo hands over to the demo module', async () => {
  const f = fake();
  expect(await runCli(['demo', '--output', 'd'], f.ctx)).toBe(0);
  expect(f.out()).toBe(join(f.folder, 'd'));
});

const checks = (bad: boolean): Check[] => [
  { name: 'Node.js', status: 'ok', found: 'v20' },
  { name: 'pip', status: 'note', found: 'none (not needed now)', remedy: 'apt-get install -y python3-pip' },
  { name: 'core', status: 'ok', found: 'built' },
  bad
    ? { name: 'engine', status: 'bad', found: 'not built', remedy: 'npx fused-grpo build' }
    : { name: 'engine', status: 'ok', found: 'built' },
];
const doctor = (bad: boolean) => fake(undefined, { importModule: async () => ({ machineChecks: () => checks(bad) }) });

test('doctor: exit code, next command, JSON', async () => {
  const good = doctor(false);
  expect(await runCli(['doctor'], good.ctx)).toBe(0);
  expect(good.out()).toContain('All is well');
  const bad = doctor(true);
  expect(await runCli(['doctor'], bad.ctx)).toBe(1);
  expect(bad.out()).toContain('Next: npx fused-grpo build');
  const json = doctor(true);
  expect(await runCli(['doctor', '--json'], json.ctx)).toBe(1);
  expect(JSON.parse(json.out())).toMatchObject({ ok: false, next: 'npx fused-grpo build', capabilities: { core: true } });
});

test('doctor: an addon that is built but does not load is bad', async () => {
  const f = doctor(false);
  const caps = f.ctx.api.capabilities();
  f.ctx.api.capabilities = () => ({ ...caps, engine: false, reasons: { engine: 'undefined symbol: _ZN5torch' } });
  expect(await runCli(['doctor'], f.ctx)).toBe(1);
  expect(f.out()).toContain('undefined symbol');
  expect(f.out()).toContain('Next: npx fused-grpo build --force');
});

test('the real process: doctor --json, an unknown option, a closed pipe', async () => {
  const run = spawnSync(process.execPath, [cli, 'doctor', '--json'], { encoding: 'utf8' });
  expect(JSON.parse(run.stdout).checks.map((c: Check) => c.name)).toEqual(
    expect.arrayContaining(['Node.js', 'C++ compiler', 'libtorch', 'core', 'engine']),
  );
  const odd = spawnSync(process.execPath, [cli, 'doctor', '--jsno'], { encoding: 'utf8' });
  expect(odd.status).toBe(2);
  expect(odd.stderr).toBe("fused-grpo: Unknown option --jsno of 'doctor'; did you mean --json?\n");
  const piped = spawn(process.execPath, [cli, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  piped.stdout.destroy();
  const [code, errors] = await new Promise<[number | null, string]>((resolve) => {
    let text = '';
    piped.stderr.on('data', (d) => (text += String(d)));
    piped.on('close', (c) => resolve([c, text]));
  });
  expect([code, errors]).toEqual([0, '']);
});
