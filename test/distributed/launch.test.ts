// `launch`: the processes of a run on one machine, and what is said and done when they end.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { causeOf, threadsOf } from '../../lib/cli/attempt.js';
import { demoModel, freePort, library } from './support.js';

let folder: string;
let count = 0;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-launch-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const outputDir = () => join(folder, String(count++));

interface Launched {
  exit: number | null;
  err: string;
}

describe('launch', () => {
  const cli = join(__dirname, '../../scripts/cli.mjs');
  const run = (args: string[], onOutput?: (text: string, kill: (signal: NodeJS.Signals) => void) => void): Promise<Launched> =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, [cli, 'launch', ...args], { env: { ...process.env, NODE_OPTIONS: '', FUSED_GRPO_DEBUG: '' } });
      let err = '';
      child.stderr.on('data', (chunk) => {
        err += String(chunk);
        onOutput?.(err, (signal) => void child.kill(signal));
      });
      child.on('close', (exit) => resolve({ exit, err }));
    });
  const training = (output: string, reward: string, ...more: string[]) => {
    const data = join(folder, 'prompts.jsonl');
    writeFileSync(data, Array.from({ length: 12 }, (_, i) => JSON.stringify({ prompt: `${i}+1=`, answer: String(i + 1) })).join('\n'));
    const module = join(folder, `${count++}.mjs`);
    writeFileSync(module, reward);
    return [
      ...['--', 'train', '--model', demoModel, '--data', data, '--reward', module, '--output', output],
      ...['--max-steps', '6', '--per-device-train-batch-size', '8', '--num-generations', '4', '--max-completion-length', '8'],
      ...['--save-steps', '1', '--ddp-timeout', '60', ...more],
    ];
  };
  /** A reward function of which rank 1 does something at a step. */
  const atStep = (step: number, what: string) => `export default ({ completions, trainerState }) => {
  if (process.env.RANK === '1' && trainerState.step === ${step}) ${what};
  return completions.map((c) => c.length);
};`;
  const good = `export default ({ completions }) => completions.map((c) => c.length);`;

  test('two processes; one voice; a report', async () => {
    const output = outputDir();
    const { exit, err } = await run(['--nproc', '2', ...training(output, good)]);
    expect([exit, err]).toEqual([0, expect.stringMatching(/Done: /)]);
    expect(err.match(/Done: /g)).toHaveLength(1);
    expect(err.match(/Training in 2 processes\n/g)).toHaveLength(1);
    expect(existsSync(join(output, 'report.html'))).toBe(true);
  }, 60_000);

  test('a rank dies: started again, the run goes on and ends well', async () => {
    const output = outputDir();
    const mark = join(folder, 'died');
    const reward = `import { existsSync, writeFileSync } from 'node:fs';
export default ({ completions, trainerState }) => {
  if (process.env.RANK === '1' && trainerState.step === 3 && !existsSync(${JSON.stringify(mark)})) {
    writeFileSync(${JSON.stringify(mark)}, '');
    process.kill(process.pid, 'SIGKILL');
  }
  return completions.map((c) => c.length);
};`;
    const { exit, err } = await run(['--nproc', '2', '--max-restarts', '1', ...training(output, reward, '--resume', 'auto')]);
    expect([exit, err]).toEqual([
      0,
      expect.stringMatching(/Rank 1 was ended by SIGKILL; starting all again \(1 of 1\)[\s\S]*Going on after step 3[\s\S]*Done: /),
    ]);
    const steps = readFileSync(join(output, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { step: number }).step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6]);
  }, 60_000);

  test('a mistake is told once with its rank, and ends with its exit code', async () => {
    const reward = `export default ({ completions }) => { if (process.env.RANK === '1') throw new Error('what?'); return completions.map(() => 0); };`;
    const { exit, err } = await run(['--nproc', '2', ...training(outputDir(), reward)]);
    expect(exit).toBe(1);
    expect(err).toMatch(/\[rank 1\] fused-grpo: Reward function .*what\?/);
    expect(err).toMatch(/Rank 1 ended with exit code 1; the run has ended/);
    const slip = await run(['--nproc', '3', ...training(outputDir(), good, '--max-stepps', '3')]);
    expect(slip).toMatchObject({ exit: 2, err: "fused-grpo: Unknown option --max-stepps of 'train'; did you mean --max-steps?\n" });
    expect((await run(['--nproc', '2'])).err).toMatch(/launch needs a command after --/);
    expect((await run(training(outputDir(), good))).err).toMatch(/--nproc/);
    expect((await run(['--nproc', '2', 'train', '--model', demoModel])).err).toMatch(/those of the command that it starts stand behind --/);
    const server = createServer().listen(0);
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const taken = await run(['--nproc', '2', '--port', String(port), ...training(outputDir(), good)]);
    server.close();
    expect([taken.exit, taken.err]).toEqual([2, expect.stringContaining(`--port ${port} is taken`)]);
  }, 60_000);

  test('Ctrl-C: saved, 130, and it goes on', async () => {
    const output = outputDir();
    const slow = `export default async ({ completions }) => { await new Promise((r) => setTimeout(r, 300)); return completions.map((c) => c.length); };`;
    let sent = false;
    const first = await run(['--nproc', '2', ...training(output, slow)], (text, kill) => {
      if (!sent && /train 1\/6/.test(text)) {
        sent = true;
        kill('SIGINT');
      }
    });
    expect([first.exit, first.err]).toEqual([130, expect.stringMatching(/Interrupted/)]);
    const second = await run(['--nproc', '2', ...training(output, good, '--resume', 'auto')]);
    expect([second.exit, second.err]).toEqual([0, expect.stringMatching(/Going on after step [1-5]/)]);
  }, 60_000);

  test('Ctrl-C with sharded moments: saved by all together', async () => {
    const output = outputDir();
    const slow = `export default async ({ completions }) => { await new Promise((r) => setTimeout(r, 300)); return completions.map((c) => c.length); };`;
    let sent = false;
    const options = ['--shard-optimizer', '--save-steps', '0'];
    const first = await run(['--nproc', '2', ...training(output, slow, ...options)], (text, kill) => {
      if (!sent && /train 2\/6/.test(text)) {
        sent = true;
        kill('SIGINT');
      }
    });
    expect([first.exit, first.err]).toEqual([130, expect.stringMatching(/Interrupted; what was done is saved/)]);
    const second = await run(['--nproc', '2', ...training(output, slow, ...options, '--resume', 'auto')]);
    expect([second.exit, second.err]).toEqual([0, expect.stringMatching(/Going on after step [2-5]/)]);
  }, 60_000);

  test('rewards that differ from rank to rank are found, whatever they are called', async () => {
    const reward = (factor: string) =>
      `const factor = ${factor}; export default ({ completions }) => completions.map((c) => factor * c.length);`;
    const other = reward('2'); // the function's own text is the same
    const named = (of: string, text: string) => {
      const args = training(outputDir(), text).slice(1);
      const at = args.indexOf('--reward') + 1;
      const file = join(folder, of, 'reward.mjs');
      mkdirSync(join(folder, of));
      renameSync(args[at]!, file);
      return args.with(at, file);
    };
    const [first, second] = [named('one', reward('1')), named('two', other)];
    const port = String(await freePort());
    const one = (rank: number, args: string[]) =>
      new Promise<[number | null, string]>((resolve) => {
        const env = { ...process.env, NODE_OPTIONS: '', RANK: String(rank), WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: port };
        const child = spawn(process.execPath, [cli, ...args], { env });
        let err = '';
        child.stderr.on('data', (chunk) => (err += String(chunk)));
        child.on('close', (exit) => resolve([exit, err]));
      });
    for (const [exit, err] of await Promise.all([one(0, first), one(1, second)]))
      expect([exit, err]).toEqual([2, expect.stringMatching(/reward function/)]);
  }, 60_000);

  test('only what trains is launched', async () => {
    for (const command of [['doctor'], ['eval', '--model', demoModel], ['launch', '--nproc', '2', '--', 'train'], ['reward', 'score']])
      expect(await run(['--nproc', '2', '--', ...command])).toEqual({
        exit: 2,
        err: expect.stringMatching(
          new RegExp(`^fused-grpo: launch starts what trains \\(train, sft and reward train\\), not '${command[0]}'`),
        ),
      });
  }, 60_000);

  test('a program of its own: its arguments, the processes, its exit code', async () => {
    const loop = join(folder, 'loop.cjs');
    const text = `const { ProcessGroup } = require(${JSON.stringify(library)});
ProcessGroup.join().then(async (group) => {
  const all = await group.gather([process.argv[2], process.env.FUSED_GRPO_THREADS]);
  if (group.rank === 0) console.error('all: ' + JSON.stringify(all));
  await group.leave();
  process.exitCode = group.rank === 1 ? 5 : 0;
});`;
    writeFileSync(loop, text);
    const threads = String(Math.max(1, Math.floor(availableParallelism() / 2)));
    const { exit, err } = await run(['--nproc', '2', '--', loop, '--x=1']);
    expect([exit, err]).toEqual([5, expect.stringContaining(`all: ${JSON.stringify([0, 1].map(() => ['--x=1', threads]))}`)]);
    expect((await run(['--nproc', '2', '--', 'nowhere.mjs'])).err).toBe('fused-grpo: There is no program nowhere.mjs to launch\n');
  }, 60_000);

  test('input that cannot be used is not tried again', async () => {
    const { exit, err } = await run(['--nproc', '2', '--max-restarts', '3', ...training(outputDir(), good, '--num-generations', '3')]);
    expect([exit, err]).toEqual([
      2,
      expect.stringMatching(/is not a multiple of numGenerations[\s\S]*ended with exit code 2; the run has ended/),
    ]);
    expect(err).not.toMatch(/starting all again/);
  }, 60_000);

  test('a restart without --resume cannot go on: said before, and the exit code is that of the first failure', async () => {
    const { exit, err } = await run(['--nproc', '2', '--max-restarts', '1', ...training(outputDir(), atStep(2, 'process.exit(7)'))]);
    expect(err).toMatch(/^--max-restarts without --resume auto: once train has made a step, a restart finds its output folder in use/);
    expect([exit, err]).toEqual([
      7,
      expect.stringMatching(/exit code 7; starting all again \(1 of 1\)[\s\S]*already holds a run[\s\S]*so the restart cannot go on/),
    ]);
    const resumed = ['--max-restarts', '1', ...training(outputDir(), good, '--resume', 'auto')];
    expect((await run(['--nproc', '2', ...resumed])).err).not.toMatch(/--max-restarts/);
  }, 60_000);

  test('a rank that is killed: the others say which, at once, and save', async () => {
    const output = outputDir();
    const { exit, err } = await run(['--nproc', '3', ...training(output, atStep(2, "process.kill(process.pid, 'SIGKILL')"))]);
    expect(exit).toBe(1);
    expect(err).toMatch(/^fused-grpo: Rank 1 was ended by SIGKILL$/m);
    expect(err).toMatch(/^\[rank 2\] fused-grpo: Rank 1 was ended by SIGKILL$/m);
    expect(err).toMatch(/Rank 1 was ended by SIGKILL; the run has ended\n$/);
    expect(err).not.toMatch(/Interrupted/);
    expect(existsSync(join(output, 'checkpoint-2'))).toBe(true);
  }, 60_000);

  test("a rank's own words about another's end are waited for, as long as it is busy", async () => {
    const reward = `export default async ({ completions, trainerState }) => {
  if (process.env.RANK === '1' && trainerState.step === 1) throw new Error('what?');
  if (process.env.RANK === '0' && trainerState.step === 1) await new Promise((resolve) => setTimeout(resolve, 1000));
  return completions.map((c) => c.length);
};`;
    const { exit, err } = await run(['--nproc', '2', ...training(outputDir(), reward)]);
    expect([exit, err]).toEqual([1, expect.stringMatching(/^fused-grpo: Rank 1 ended \(step 2\): Reward function .*what\?/m)]);
    expect(err).not.toMatch(/stopping and saving/);
  }, 60_000);

  test('a rank that stops: the others name it, launch says what it waits for', async () => {
    const stop = atStep(2, "process.kill(process.pid, 'SIGSTOP')");
    const { exit, err } = await run(['--nproc', '2', '--grace', '4', ...training(outputDir(), stop, '--ddp-timeout', '2')]);
    expect([exit, err]).toEqual([
      1,
      expect.stringMatching(
        /^fused-grpo: Rank 1 has given no sign of life for 2 s \(step 3\)[\s\S]*Rank 0 ended with exit code 1; waiting up to 4 s for rank 1 to save and end\n/m,
      ),
    ]);
  }, 60_000);

  test('a rank that leaves as if all were well', async () => {
    const { exit, err } = await run(['--nproc', '2', ...training(outputDir(), atStep(2, 'process.exit(0)'))]);
    expect([exit, err]).toEqual([
      1,
      expect.stringMatching(/Rank 0 ended with exit code 1, after rank 1 had ended with exit code 0; the run has ended/),
    ]);
  }, 60_000);

  test('what ended a run is bad input, whoever ends first, else the first failure', () => {
    const ends = [0, 1, 2, 7].map((code, rank) => ({ rank, code, signal: null }));
    expect(causeOf(ends)).toBe(ends[2]);
    expect(causeOf([ends[3]!, ends[1]!])).toBe(ends[3]);
    expect(causeOf([ends[0]!])).toBeUndefined();
  });

  test('threads: as many as cores in all, unless the user says otherwise by either variable', () => {
    const both = (threads: string) => ({ OMP_NUM_THREADS: threads, FUSED_GRPO_THREADS: threads });
    expect(threadsOf({}, 1)).toEqual(both(String(availableParallelism())));
    expect(threadsOf({}, 256)).toEqual(both('1'));
    expect(threadsOf({ OMP_NUM_THREADS: '5' }, 2)).toEqual(both('5'));
    expect(threadsOf({ FUSED_GRPO_THREADS: '6' }, 2)).toEqual(both('6'));
    expect(threadsOf({ OMP_NUM_THREADS: '5,2', FUSED_GRPO_THREADS: '6' }, 2)).toEqual({ OMP_NUM_THREADS: '5,2', FUSED_GRPO_THREADS: '6' });
  });
});
