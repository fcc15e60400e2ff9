// Ctrl-C in a real process: real signals, real exit codes, a trainer that takes its time.
import { expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const dist = join(__dirname, '../../dist/cjs/cli');

/** A process that trains; `deaf`: its trainer does not react to the signal. */
function start(deaf: boolean) {
  const cwd = mkdtempSync(join(tmpdir(), 'fused-grpo-'));
  mkdirSync(join(cwd, 'model'));
  writeFileSync(join(cwd, 'p.jsonl'), '');
  writeFileSync(join(cwd, 'r.mjs'), 'export default () => [0];');
  const code = `
    const { runCli } = require(${JSON.stringify(join(dist, 'main.js'))});
    const { processContext } = require(${JSON.stringify(join(dist, 'context.js'))});
    const { appendFileSync, mkdirSync } = require('node:fs');
    class GRPOTrainer {
      totalSteps = 1000;
      constructor(options) { this.options = options; }
      async *[Symbol.asyncIterator]() {
        mkdirSync('run');
        for (let step = 1; ; ++step) {
          await new Promise((resolve) => setTimeout(resolve, 20));
          if (!${deaf}) this.options.signal.throwIfAborted();
          appendFileSync('run/metrics.jsonl', JSON.stringify({ step, reward: 1 }) + '\\n');
          yield { step, metrics: { step, reward: 1 }, samples: [] };
        }
      }
    }
    const ctx = processContext();
    ctx.api = { ...ctx.api, grpo: () => ({ GRPOTrainer, PPOTrainer: GRPOTrainer, grpoConfigOptions: {}, ppoConfigOptions: {}, algorithmConfigs: { grpo: {} }, presets: {} }) };
    runCli(['train', '--model', 'model', '--data', 'p.jsonl', '--reward', 'r.mjs', '--output', 'run'], ctx).then((code) => process.exit(code));`;
  const child = spawn(process.execPath, ['-e', code], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let err = '';
  const waiting: { text: string; go: () => void }[] = [];
  child.stderr.on('data', (data) => {
    err += String(data);
    for (const w of waiting) if (err.includes(w.text)) w.go();
  });
  const closed = new Promise<number | null>((resolve) => child.on('close', (status) => resolve(status)));
  const says = (text: string) =>
    new Promise<void>((resolve, reject) => {
      waiting.push({ text, go: resolve });
      void closed.then(() => reject(new Error(`it ended without saying '${text}':\n${err}`)));
      if (err.includes(text)) resolve();
    });
  return { child, closed, says, cwd, err: () => err };
}

test.each(['SIGINT', 'SIGTERM'] as const)('%s: stops after the step, writes the report, exits 130', async (signal) => {
  const p = start(false);
  await p.says('train 1/1000');
  p.child.kill(signal);
  expect(await p.closed).toBe(130);
  expect(p.err()).toContain('Stopping and saving');
  expect(p.err()).toContain('Interrupted; what was done is saved');
  expect(readFileSync(join(p.cwd, 'run', 'report.html'), 'utf8')).toContain('Interrupted after step');
});

test('a second Ctrl-C exits at once, whatever the trainer does', async () => {
  const p = start(true);
  await p.says('train 1/1000');
  p.child.kill('SIGINT');
  await p.says('Stopping and saving');
  p.child.kill('SIGINT');
  expect(await p.closed).toBe(130);
});
