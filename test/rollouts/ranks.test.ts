// Several ranks that have servers sample: each asks for its own prompts, the first hands the weights over, and all of them can.
import { afterEach, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runRanks, type RankResult } from '../distributed/support.js';
import { ModelServer, stopServers } from './model-server.js';

afterEach(stopServers);
const folder = mkdtempSync(join(tmpdir(), 'rollout-ranks-'));
const config = {
  numGenerations: 4,
  maxCompletionLength: 4,
  learningRate: 1e-3,
  maxSteps: 4,
  saveSteps: 0,
  samplerImportanceSampling: 'token_truncate',
};

interface Metrics {
  reward: number;
  loss: number;
  staleness: { max: number };
  rollout: { requests: number; retries: number; stale: number };
  servers: Record<string, { completions: number }>;
}
const metricsOf = ({ steps }: RankResult) => steps.map((s) => s.metrics as unknown as Metrics);

async function train(worldSize: number, name: string, server: ModelServer): Promise<RankResult[]> {
  const servers = { urls: server.stub.url, retryDelay: 0.01, healthInterval: 0.05 };
  const outputDir = join(folder, name);
  return runRanks(worldSize, { servers, config: { ...config, perDeviceTrainBatchSize: 16 / worldSize, outputDir } });
}

test('two ranks train as one does; their requests are counted together; a restarted server is noticed by either', async () => {
  const calm = await ModelServer.start();
  const [one] = await train(1, 'one', calm);
  expect(one!.error).toBeUndefined();
  const rough = await ModelServer.start();
  let asked = 0;
  // in the third rollout the server is one that was started again: it answers by its first weights, under their name
  rough.stub.options.fault = () => {
    if (++asked === 36) rough.stub.version = 'default';
    return undefined;
  };
  const two = await train(2, 'two', rough);
  expect(two.map((r) => r.error)).toEqual([undefined, undefined]);
  const [a, b] = [metricsOf(one!), metricsOf(two[0]!)];
  expect(a.map((m) => m.rollout.requests)).toEqual([16, 16, 16, 16]);
  expect(b.map((m) => m.rollout.requests).reduce((x, y) => x + y)).toBeGreaterThan(64);
  expect(b.map((m) => Object.values(m.servers)[0]!.completions)).toEqual([16, 16, 16, 16]);
  expect(b.map((m) => m.rollout.stale > 0)).toEqual([false, false, true, false]);
  for (const [i, m] of a.entries()) {
    expect([b[i]!.reward, b[i]!.staleness.max]).toEqual([m.reward, 0]);
    expect(b[i]!.loss).toBeCloseTo(m.loss, 4);
  }
  rmSync(folder, { recursive: true });
}, 90000);
