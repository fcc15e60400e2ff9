// Training over HTTP: a server with the model answers, by vLLM's and llama.cpp's requests, and the run is that of a local model.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import type { RolloutFn, SyncWeights, SyncedWeights } from '../../lib/trainer/rollout-function.js';
import { logOf, newFolder, run, trainDataset, weightsOf } from './support.js';

const root = join(__dirname, '../..');
const dist = join(root, 'dist/cjs');
const example = pathToFileURL(join(root, 'examples/rollout-openai.mjs')).href;
const children: ChildProcess[] = [];
afterAll(() => children.forEach((child) => child.kill()));

/** A server with the model of a folder; its address. */
async function serve(folder: string): Promise<string> {
  const child = spawn(process.execPath, [join(__dirname, 'completion-server.mjs'), dist, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  const port = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (data: Buffer) => resolve(data.toString().trim()));
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return `http://127.0.0.1:${port}`;
}

async function ask<T>(address: string, path: string, body: object = {}, signal?: AbortSignal): Promise<T> {
  const response = await fetch(address + path, { method: 'POST', body: JSON.stringify(body), signal });
  const text = await response.text();
  if (!response.ok) throw new Error(text);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

test('sampling in another process, weights handed over by a folder: tokens, log and weights of local training', async () => {
  const address = await serve(demoModel());
  const rollout: RolloutFn = async ({ prompts, numGenerations, sampling, signal }) => {
    const { temperature, topP, topK, repetitionPenalty, seed, step, promptOffset, maxCompletionLength: maxNewTokens } = sampling;
    const options = { temperature, topP, topK, repetitionPenalty, seed, step, promptOffset, maxNewTokens, numGenerations };
    const all = await ask<Awaited<ReturnType<RolloutFn>>[number]>(address, '/exact', { prompts: prompts.map((p) => [...p.tokens]), options }, signal);
    return prompts.map((_, p) => all.slice(p * numGenerations, (p + 1) * numGenerations));
  };
  const hook = ({ folder, signal }: SyncedWeights) => ask<void>(address, '/load', { folder }, signal);
  const [own, remote] = [newFolder(), newFolder()];
  await run({ outputDir: own });
  await run({ outputDir: remote, samplerImportanceSampling: 'none' }, { rollout, syncWeights: { hook } });
  expect(logOf(remote)).toEqual(logOf(own));
  expect(weightsOf(remote).equals(weightsOf(own))).toBe(true);
  expect(await ask(address, '/loads')).toBe(4);
}, 60000); // prettier-ignore

describe.each(['openai', 'llamacpp'])('examples/rollout-openai.mjs, ROLLOUT_API=%s', (api) => {
  let folder: string;
  let address: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'rollout-server-'));
    cpSync(demoModel(), join(folder, 'weights'), { recursive: true }); // what the server serves, and fused-grpo writes
    address = await serve(join(folder, 'weights'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** The module in a process of its own, as its settings are read when it is loaded; asked for one request. */
  const settings = () => ({ ...process.env, NODE_OPTIONS: '', ROLLOUT_SERVER: address, ROLLOUT_API: api });

  test('npx fused-grpo train --rollout: the run of a local model with the same seeds', async () => {
    const data = join(folder, 'sums.jsonl');
    writeFileSync(data, trainDataset.slice(0, 200).map((row) => JSON.stringify(row)).join('\n'));
    const output = join(folder, 'run');
    const reward = join(folder, 'reward.cjs');
    writeFileSync(reward, `module.exports = require(${JSON.stringify(join(dist, 'demo/arithmetic.js'))}).correctAnswer;`);
    const config = { numGenerations: 4, perDeviceTrainBatchSize: 16, maxCompletionLength: 4, learningRate: 1e-3, maxSteps: 3 };
    const flags = Object.entries({ ...config, samplerImportanceSampling: 'token_truncate' }).flatMap(([name, value]) => [`--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`, String(value)]);
    const wrapper = join(folder, 'rollout.mjs'); // the example, with its weights where this server's are
    const hook = 'syncWeights && { ...syncWeights, folder: ' + JSON.stringify(join(folder, 'weights')) + ' }';
    writeFileSync(wrapper, `import rollout, { syncWeights } from ${JSON.stringify(example)};\nexport default rollout;\nconst given = ${hook};\nexport { given as syncWeights };\n`);
    const args = ['train', '--model', demoModel(), '--data', data, '--reward', reward, '--rollout', wrapper, '--output', output, ...flags];
    const done = spawnSync(process.execPath, [join(root, 'scripts/cli.mjs'), ...args], { encoding: 'utf8', env: settings() });
    expect([done.status, done.stderr]).toEqual([0, expect.stringContaining('Done')]);
    expect(await ask(address, '/loads')).toBe(api === 'openai' ? 3 : 0);
    expect(existsSync(join(output, 'report.html'))).toBe(true);

    let policy: Policy | undefined = api === 'openai' ? undefined : await Policy.load(demoModel()); // llama.cpp: always the first weights
    const rollout: RolloutFn = ({ prompts, numGenerations }) => Promise.all(prompts.map(async ({ tokens, seed }) => {
      const draw = async (n: number, s: number) => (await policy!.generate([tokens], { numGenerations: n, seed: s, maxNewTokens: 4 })).completions;
      const many = Array.from({ length: numGenerations }, async (_, g) => (await draw(1, seed + g))[0]!);
      const completions = api === 'openai' ? await draw(numGenerations, seed) : await Promise.all(many);
      return completions.map((c) => ({ tokens: c.tokens, samplerLogps: c.logps, finishReason: c.finishReason }));
    }));
    const hook2: SyncWeights['hook'] = async (weights) => {
      policy?.dispose();
      policy = await Policy.load(weights.folder);
    };
    const local = newFolder();
    await run(
      { ...config, perDeviceTrainBatchSize: 16, saveSteps: 500, outputDir: local, samplerImportanceSampling: 'token_truncate' },
      { trainDataset: data, rewardFuncs: correctAnswer, rollout, ...(api === 'openai' ? { syncWeights: { hook: hook2 } } : {}) },
    );
    policy!.dispose();
    expect(logOf(output)).toEqual(logOf(local));
    expect(weightsOf(output).equals(weightsOf(local))).toBe(true);
  }, 60000); // prettier-ignore
});

test('what a server refuses, and one that is not there, end the run in plain words', async () => {
  const address = await serve(demoModel());
  const answer = (env: Record<string, string>, model = 'policy') => {
    const script = `
      const { default: rollout } = await import(${JSON.stringify(example)});
      const sampling = { maxCompletionLength: 3, temperature: 1, topP: 7, topK: 0, repetitionPenalty: 1, stopTokenIds: [] };
      await rollout({ prompts: [{ tokens: [1, 5], seed: 3 }], numGenerations: 2, sampling }).catch((e) => console.log(e.message));`;
    const given = { ...process.env, NODE_OPTIONS: '', ROLLOUT_MODEL: model, ...env };
    return spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env: given }).stdout;
  };
  expect(answer({ ROLLOUT_SERVER: address })).toContain('/v1/completions answered 500: RangeError: Expected'); // topP 7
  expect(answer({ ROLLOUT_SERVER: 'http://127.0.0.1:1' })).toContain('ECONNREFUSED');
}, 60000);

test('older vLLM names ids in the log-probs: the same completions', async () => {
  const address = await serve(demoModel());
  const script = `
    const { default: rollout } = await import(${JSON.stringify(example)});
    const sampling = { maxCompletionLength: 3, temperature: 1, topP: 1, topK: 0, repetitionPenalty: 1, stopTokenIds: [] };
    console.log(JSON.stringify(await rollout({ prompts: [{ tokens: Int32Array.of(1, 5), seed: 3 }], numGenerations: 2, sampling })));`;
  const answer = (model: string) => {
    const env = { ...process.env, NODE_OPTIONS: '', ROLLOUT_SERVER: address, ROLLOUT_MODEL: model };
    return JSON.parse(spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env }).stdout) as unknown;
  };
  const policy = await Policy.load(demoModel());
  const { completions } = await policy.generate([Int32Array.of(1, 5)], { numGenerations: 2, seed: 3, maxNewTokens: 3 });
  const expected = completions.map((c) => ({ tokens: [...c.tokens], samplerLogps: [...c.logps], finishReason: c.finishReason }));
  policy.dispose();
  expect([answer('policy'), answer('old')]).toEqual([[expected], [expected]]);
}, 60000);
