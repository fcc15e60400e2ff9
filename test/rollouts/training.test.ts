// Runs whose completions servers sample: the real model behind the stub's answers, and what goes wrong on the way.
import { afterEach, describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openAICompatible } from '../../lib/rollouts/openai-compatible.js';
import type { RolloutFn } from '../../lib/trainer/rollout-function.js';
import type { GRPOConfig } from '../../lib/trainer/config.js';
import { evalDataset, logOf, newFolder, run, weightsOf } from '../trainer/support.js';
import { ModelServer, stopServers } from './model-server.js';

afterEach(stopServers);
const quick = { retryDelay: 0.005, healthInterval: 0.02, patience: 5 };
const urls = (...all: ModelServer[]) => all.map((s) => s.stub.url);

test('the run of one server is that of three, with faults and a death: bit for bit', async () => {
  const config = { evalSteps: 2, evalNumGenerations: 2, maxSteps: 5 };
  const more = { evalDataset: evalDataset.slice(0, 6) };
  const [calm, rough] = [newFolder(), newFolder()];
  const one = await ModelServer.start();
  await run({ ...config, outputDir: calm }, { ...more, rollout: openAICompatible({ urls: urls(one), ...quick }) });
  expect(one.stub.reloads.length).toBe(6); // before each rollout, and for the evaluation at the end
  const faults = ['drop', 'cut', 500, 'half', 'aborted', 429] as const;
  const three = await Promise.all([
    ModelServer.start({ fault: (n) => (n % 7 === 3 ? faults[((n / 7) % faults.length) | 0] : undefined) }),
    ModelServer.start(),
    ModelServer.start(),
  ]);
  let deaths = 0;
  three[1].stub.options.fault = (n) => {
    if (n !== 10 && n !== 30) return undefined;
    ++deaths;
    void three[1].stub.die().then(() => setTimeout(() => void three[1].stub.listen(), 50));
    return 'drop';
  };
  const rollout = openAICompatible({ urls: urls(...three), ...quick });
  const steps = await run({ ...config, outputDir: rough }, { ...more, rollout });
  expect(logOf(rough)).toEqual(logOf(calm));
  expect(weightsOf(rough).equals(weightsOf(calm))).toBe(true);
  expect(deaths).toBe(2);
  const counted = steps.map((s) => s.metrics.rollout!);
  expect(counted.reduce((n, r) => n + r.retries, 0)).toBeGreaterThan(5);
  expect(counted.reduce((n, r) => n + r.serversOut, 0)).toBeGreaterThan(0);
}, 60000);

test('metrics: rates, waits and staleness are in the log and in the report, and docs/metrics.md explains them', async () => {
  const outputDir = newFolder();
  const server = await ModelServer.start();
  const rollout = openAICompatible({ urls: urls(server), ...quick, every: 2 });
  const steps = await run({ outputDir, maxSteps: 3, numIterations: 2 }, { rollout });
  expect(steps.map((s) => s.metrics.staleness)).toEqual([0, 1, 0].map((age) => ({ mean: age, max: age })));
  expect(steps.map((s) => s.metrics.servers !== undefined)).toEqual([true, false, true]); // steps that draw a rollout
  const [first] = readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').split('\n').map((line) => line && (JSON.parse(line) as never as typeof steps[0]['metrics'])); // prettier-ignore
  const name = `127-0-0-1_${server.stub.port}`;
  expect(first).toMatchObject({ servers: { [name]: { completions: 32, failures: 0, outs: 0 } }, rollout: { requests: 32, retries: 0, stale: 0, serversOut: 0 } });
  const { servers: all, rollout: numbers } = steps[0]!.metrics;
  expect(all![name]!.tokensPerSecond).toBeGreaterThan(0);
  const text = readFileSync(join(__dirname, '../../docs/metrics.md'), 'utf8').split('<!-- servers -->')[1]!.split('<!-- end of servers -->')[0]!;
  const explained = [...text.matchAll(/^\| `([^`]+)`/gm)].map((m) => m[1]!);
  expect(Math.abs(steps[0]!.metrics.samplerKl!)).toBeLessThan(1e-4); // the same weights
  expect(explained.sort()).toEqual(['samplerKl', ...Object.keys(numbers!).map((k) => `rollout.${k}`), ...Object.keys(all![name]!).map((k) => `servers.NAME.${k}`)].sort());
}, 60000); // prettier-ignore

describe('maxStaleness', () => {
  /** Which versions a run samples by; the hook notes what it is handed. */
  async function versionsOf(config: GRPOConfig, every: number) {
    const handed: number[] = [];
    const server = await ModelServer.start();
    const rollout = openAICompatible({ urls: urls(server), ...quick, every });
    const { hook } = rollout.syncWeights!;
    rollout.syncWeights!.hook = (weights) => (handed.push(weights.policyVersion), hook(weights));
    const steps = await run({ maxSteps: 6, ...config }, { rollout });
    return { handed, ages: steps.map((s) => s.metrics.staleness.max) };
  }

  test.each<[GRPOConfig, number, number[], number[]]>([
    [{}, 4, [0, 4], [0, 1, 2, 3, 0, 1]],
    [{ maxStaleness: 2 }, 4, [0, 3], [0, 1, 2, 0, 1, 2]],
    [{ maxStaleness: 0 }, 4, [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]],
    [{ maxStaleness: 2, generateAhead: true }, 4, [0, 2, 4], [0, 1, 2, 1, 2, 1]],
    [{ maxStaleness: 2, numIterations: 2 }, 4, [0, 2, 4], [0, 1, 0, 1, 0, 1]],
  ])('%j with every %i: weights %j are handed over; steps are %j old', async (config, every, handed, ages) => {
    expect(await versionsOf(config, every)).toEqual({ handed, ages });
  }, 60000); // prettier-ignore

  test('what cannot be kept is an error before anything is loaded', async () => {
    await expect(run({ maxStaleness: 0, generateAhead: true })).rejects.toThrow(/maxStaleness 0: the last optimizer step on a rollout is 1 steps after.*generateAhead/);
    await expect(run({ maxStaleness: 2, numIterations: 4 })).rejects.toThrow(/is 3 steps after/);
  }); // prettier-ignore

  /** Samples by itself; says of some completions that older weights sampled them. */
  const saying = (version: (call: number, prompt: number) => number | undefined, logps = true) => {
    const asked: number[] = [];
    const rollout: RolloutFn = ({ prompts, numGenerations }) => {
      const call = asked.push(prompts.length) - 1;
      return prompts.map((_, p) =>
        Array.from({ length: numGenerations }, (_, g) => {
          const policyVersion = version(call, p);
          const said = policyVersion === undefined ? {} : { policyVersion };
          return { tokens: [5 + ((call + g) % 4)], finishReason: 'stop' as const, ...(logps ? { samplerLogps: [-2.5] } : {}), ...said };
        }),
      );
    };
    return { asked, rollout };
  };

  test('prompts that older weights answered are asked for again, and counted', async () => {
    // the second rollout (of 8 prompts) begins with two groups by the first weights
    const { asked, rollout } = saying((call, p) => (call === 1 && p < 2 ? 0 : undefined));
    const steps = await run({ maxStaleness: 0, maxSteps: 2 }, { rollout });
    expect(asked).toEqual([8, 8, 2]);
    expect(steps.map((s) => [s.metrics.staleness.max, s.metrics.rollout?.stale])).toEqual([[0, undefined], [0, 8]]);
    const { asked: kept, rollout: other } = saying((call, p) => (call === 1 && p < 2 ? 0 : undefined));
    const [, second] = await run({ maxStaleness: 1, maxSteps: 2 }, { rollout: other });
    expect([kept, second!.metrics.staleness]).toEqual([[8, 8], { mean: 0.25, max: 1 }]);
  }); // prettier-ignore

  test('older weights every time: an error that says which and how often', async () => {
    const { asked, rollout } = saying((call) => (call === 0 ? undefined : 0));
    await expect(run({ maxStaleness: 0 }, { rollout })).rejects.toMatchObject({
      code: 'ERR_ROLLOUT',
      message: expect.stringMatching(/prompt 0, completion 0 was sampled by the weights of optimizer step 0; maxStaleness 0 asks for those of 1 or newer, and so it was asked 4 times/),
    });
    expect(asked).toEqual([8, 8, 8, 8, 8]);
  }, 20000); // prettier-ignore

  test('stale samples are corrected for: log-probs are needed, unless that is turned off', async () => {
    await expect(run({ maxStaleness: 1, maxSteps: 1 }, { rollout: saying(() => undefined, false).rollout })).rejects.toThrow(/has no samplerLogps: maxStaleness/);
    expect(await run({ maxStaleness: 1, maxSteps: 1, samplerImportanceSampling: 'none' }, { rollout: saying(() => undefined, false).rollout })).toHaveLength(1);
    await expect(run({}, { rollout: saying(() => -1).rollout })).rejects.toThrow(/policyVersion is -1; a number of optimizer steps is needed/);
  }); // prettier-ignore
});

test('two hands on the weights are refused', async () => {
  const rollout = openAICompatible({ urls: 'http://127.0.0.1:1' });
  await expect(run({}, { rollout, syncWeights: { hook: () => undefined } })).rejects.toThrow(/brings its own syncWeights/);
});
