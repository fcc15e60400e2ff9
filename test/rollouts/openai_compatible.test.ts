// Servers that sample, with faults at will: what comes back is right or an error, whatever they do.
import { afterEach, describe, expect, test } from '@jest/globals';
import { openAICompatible } from '../../lib/rollouts/openai-compatible.js';
import type { OpenAICompatibleOptions } from '../../lib/rollouts/options.js';
import type { RolloutReport } from '../../lib/rollouts/stats.js';
import type { RolloutCompletion, RolloutRequest } from '../../lib/trainer/rollout-function.js';
import { warningsOf } from '../trainer/support.js';
import { made, Stub, type Fault, type StubOptions } from './stub.js';

const stubs: Stub[] = [];
afterEach(async () => void (await Promise.all(stubs.splice(0).map((stub) => stub.die().catch(() => undefined)))));
async function start(options: Partial<StubOptions> = {}): Promise<Stub> {
  const stub = await Stub.start({ kind: 'vllm', ...options });
  stubs.push(stub);
  return stub;
}

const SAMPLING = {
  temperature: 1,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  maxCompletionLength: 8,
  stopTokenIds: [0],
  seed: 1,
  step: 0,
  promptOffset: 0,
};
const prompts = (n: number) =>
  Array.from({ length: n }, (_, i) => ({
    kind: 'text' as const,
    text: '',
    row: { prompt: '' },
    tokens: Int32Array.of(1 + i, 2),
    seed: 100 * i,
  }));

function request(more: Partial<RolloutRequest> & { reports?: RolloutReport[] } = {}): RolloutRequest {
  const { reports, ...rest } = more;
  return {
    ...{ purpose: 'train', prompts: prompts(3), numGenerations: 4, sampling: SAMPLING, policyVersion: 0 },
    ...{ trainerState: { step: 0, totalSteps: 1, epoch: 0 }, signal: new AbortController().signal, report: (r) => void reports?.push(r) },
    ...rest,
  };
}

const quick = { retryDelay: 0.005, healthInterval: 0.02, patience: 2 };
const options = (servers: Stub[], more: Partial<OpenAICompatibleOptions> = {}) => ({ urls: servers.map((s) => s.url), ...quick, ...more });
const ask = (servers: Stub[], more: Partial<OpenAICompatibleOptions> = {}, asked = request()) =>
  openAICompatible(options(servers, more))(asked) as Promise<RolloutCompletion[][]>;

/** What a right answer is. */
const expected = ({ prompts: all, numGenerations, sampling }: RolloutRequest, logps = true) =>
  all.map(({ tokens, seed }) =>
    Array.from({ length: numGenerations }, (_, g) => {
      const { logps: samplerLogps, ...c } = made({ tokens: [...tokens], seed: seed + g, maxTokens: sampling.maxCompletionLength });
      return { ...c, ...(logps ? { samplerLogps } : {}) };
    }),
  );
const close = (groups: RolloutCompletion[][]) =>
  groups.map((group) =>
    group.map((c) => ({ ...c, ...(c.samplerLogps ? { samplerLogps: Array.from(c.samplerLogps, (v) => Number(v!.toFixed(6))) } : {}) })),
  );
const same = (got: RolloutCompletion[][], asked = request(), logps = true) => expect(close(got)).toEqual(close(expected(asked, logps)));

describe.each(['vllm', 'sglang', 'llama.cpp'] as const)('%s', (kind) => {
  const frozen = { reload: 'none' as const };

  test('is recognised; ids and log-probs by prompt and completion, whoever answers', async () => {
    const servers = [await start({ kind }), await start({ kind })];
    same(await ask(servers, frozen));
    expect(servers.map((s) => s.asked.length > 0)).toEqual([true, true]);
    expect(servers[0]!.asked.length + servers[1]!.asked.length).toBe(kind === 'vllm' ? 3 : 12);
    const requests = servers.flatMap((s) => s.asked.map((b) => b.input_ids ?? b.prompt));
    expect(requests).toContainEqual([3, 2]); // ids, not text
    // llama.cpp's idle connections would hold its threads
    const completions = servers.flatMap((s) => s.requests).filter((r) => r.body.prompt ?? r.body.input_ids);
    expect(new Set(completions.map((r) => r.headers.connection))).toEqual(new Set([kind === 'llama.cpp' ? 'close' : 'keep-alive']));
  });

  test('the options of sampling arrive by its names', async () => {
    const server = await start({ kind });
    const sampling = { ...SAMPLING, temperature: 0.7, topP: 0.9, topK: 5, minP: 0.1, repetitionPenalty: 1.2, stopTokenIds: [0, 9] };
    await ask([server], { ...frozen, samplerLogps: false, ignoreEos: true, extraBody: { priority: 3 } }, request({ sampling, prompts: prompts(1), numGenerations: 1 }));
    const [body] = server.asked;
    const names = {
      vllm: { model: 'policy', max_tokens: 8, temperature: 0.7, top_p: 0.9, top_k: 5, min_p: 0.1, repetition_penalty: 1.2, seed: 0, ignore_eos: true, n: 1, priority: 3 },
      sglang: { sampling_params: expect.objectContaining({ max_new_tokens: 8, temperature: 0.7, top_p: 0.9, top_k: 5, min_p: 0.1, repetition_penalty: 1.2, sampling_seed: 0, ignore_eos: true }), priority: 3 },
      'llama.cpp': { n_predict: 8, temperature: 0.7, top_p: 0.9, top_k: 5, min_p: 0.1, repeat_penalty: 1.2, repeat_last_n: 10, seed: 0, ignore_eos: true, priority: 3 },
    }[kind];
    expect(body).toMatchObject(names);
    await ask([server], frozen, request());
    const stops = server.asked.at(-1)!;
    if (kind !== 'llama.cpp') expect((stops.sampling_params as typeof stops | undefined)?.stop_token_ids ?? stops.stop_token_ids).toEqual([0]);
  });

  test('what a server goes on with behind an end token is cut off', async () => {
    const server = await start({ kind, sample: () => ({ tokens: [4, 0, 5, 6], logps: [-1, -2, -3, -4], finishReason: 'length' }) });
    const got = await ask([server], frozen);
    expect(close(got)[0]![0]).toEqual({ tokens: [4, 0], samplerLogps: [-1, -2], finishReason: 'stop' });
    const all = await ask([server], { ...frozen, ignoreEos: true });
    expect(all[0]![0]).toMatchObject({ tokens: [4, 0, 5, 6], finishReason: 'length' });
  });

  const passing: Fault[] = ['drop', 'cut', 'half', 'page', 'aborted', 500, 503, 429, ...(kind === 'vllm' ? (['fewer', 'few-logps', 'no-logps'] as const) : kind === 'sglang' ? (['few-logps'] as const) : [])];
  test.each(passing)('fault %s: tried again, and counted', async (fault) => {
    const server = await start({ kind, fault: (n) => (n < 2 ? fault : undefined) });
    const reports: RolloutReport[] = [];
    same(await ask([server], frozen, request({ reports })));
    expect(reports).toHaveLength(1);
    const [numbers] = Object.values(reports[0]!.servers);
    expect([reports[0]!.retries, numbers!.failures]).toEqual([2, 2]);
    expect(numbers).toMatchObject({ completions: 12, tokens: 48 });
    expect(numbers!.busySeconds).toBeGreaterThan(0);
  });

  test('no ids: an error that says so, at once', async () => {
    const server = await start({ kind, fault: () => 'no-ids' });
    await expect(ask([server], frozen)).rejects.toMatchObject({ code: 'ERR_ROLLOUT', message: expect.stringMatching(/gives no (token ids|output_token_logprobs)/) });
    expect(server.asked.length).toBeLessThanOrEqual(12); // no second attempt
  });

  test('a request that is refused is not repeated', async () => {
    const server = await start({ kind, fault: () => 400 });
    await expect(ask([server], frozen, request({ prompts: prompts(1), numGenerations: 1 }))).rejects.toThrow(/answered 400: as you wish/);
    expect(server.asked).toHaveLength(1);
  });

  test('one server dies for good: the other does the work', async () => {
    const [dead, alive] = [await start({ kind, seconds: 0.02 }), await start({ kind, seconds: 0.02 })];
    const rollout = openAICompatible(options([dead, alive], frozen));
    same((await rollout(request())) as RolloutCompletion[][]);
    await dead.die();
    const reports: RolloutReport[] = [];
    same((await rollout(request({ reports }))) as RolloutCompletion[][]);
    expect(Object.values(reports[0]!.servers).map((s) => [s.completions, s.failures > 0])).toEqual([[0, true], [12, false]]);
  });
}); // prettier-ignore

describe('time, load and order', () => {
  const frozen = { reload: 'none' as const };

  test('a server that hangs: its requests time out and go elsewhere', async () => {
    const [hangs, works] = [await start({ fault: () => 'slow' }), await start()];
    const reports: RolloutReport[] = [];
    same(await ask([hangs, works], { ...frozen, requestTimeout: 0.3 }, request({ reports, prompts: prompts(8) })), request({ prompts: prompts(8) }));
    const [first] = Object.values(reports[0]!.servers);
    expect(first).toMatchObject({ completions: 0, outs: 1 });
    expect(first!.failures).toBeGreaterThan(2);
  }); // prettier-ignore

  test('the last attempt ends it, with the reason and the count', async () => {
    const server = await start({ fault: () => 500 });
    const failed = ask([server], { ...frozen, retries: 2, failuresUntilOut: 99 }, request({ prompts: prompts(1) }));
    await expect(failed).rejects.toMatchObject({ code: 'ERR_ROLLOUT', message: expect.stringMatching(/answered 500: as you wish \(attempt 3 of a request, the last one\)/) });
    expect(server.asked).toHaveLength(3);
  }); // prettier-ignore

  test('never more requests at once than maxConcurrency, and requests go to the freer server', async () => {
    const [slow, fast] = [await start({ seconds: 0.2 }), await start({ seconds: 0.01 })];
    const all = request({ prompts: prompts(40), numGenerations: 1 });
    same(await ask([slow, fast], { ...frozen, maxConcurrency: 3 }, all), all);
    expect([slow.most, fast.most]).toEqual([3, 3]);
    expect(fast.asked.length).toBeGreaterThan(2 * slow.asked.length);
  });

  test('completionsPerRequest splits groups; seeds go on', async () => {
    const server = await start();
    const all = request({ numGenerations: 5 });
    same(await ask([server], { ...frozen, completionsPerRequest: 2 }, all), all);
    expect(server.asked.slice(0, 3).map((b) => [b.n, b.seed])).toEqual([[2, 0], [2, 2], [1, 4]]);
  }); // prettier-ignore

  test('an abort closes the connections and nothing more is asked', async () => {
    const server = await start({ seconds: 0.1, fault: () => 'slow' });
    const controller = new AbortController();
    const got = ask([server], frozen, request({ signal: controller.signal }));
    setTimeout(() => controller.abort(new Error('enough')), 200);
    await expect(got).rejects.toThrow('enough');
    const asked = server.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect([server.aborted, server.requests.length]).toEqual([3, asked]);
  });

  test('no server: after `patience`, with what each of them said', async () => {
    const gone = await start();
    await gone.die();
    await expect(ask([gone], { ...frozen, patience: 0.2 })).rejects.toMatchObject({
      code: 'ERR_ROLLOUT',
      message: expect.stringMatching(/^The server cannot be used: .*ECONNREFUSED.*\(patience: 0.2 s\)$/),
    });
  });

  test('a server that starts late is waited for; between calls nothing is asked', async () => {
    const late = await start();
    await late.die();
    const rollout = openAICompatible(options([late], frozen));
    const got = rollout(request()) as Promise<RolloutCompletion[][]>;
    await new Promise((resolve) => setTimeout(resolve, 150));
    await late.listen();
    same(await got);
    const asked = late.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(late.requests).toHaveLength(asked);
  });

  test('a key and headers arrive; a wrong key is said', async () => {
    const server = await start({ key: 'secret' });
    same(await ask([server], { ...frozen, apiKey: 'secret', headers: { 'x-team': 'a' } }));
    expect(server.requests[0]!.headers['x-team']).toBe('a');
    await expect(ask([server], { ...frozen, apiKey: 'wrong', server: 'vllm' })).rejects.toThrow(/answered 401: no key/);
  });

  test('another OpenAI-compatible server is refused by name', async () => {
    await expect(ask([await start({ kind: 'other' })], frozen)).rejects.toThrow(
      /is none of vLLM, SGLang and llama.cpp's llama-server.*without token ids/,
    );
  });
});

describe('log-probs', () => {
  const frozen = { reload: 'none' as const };
  const at = (more: object) => request({ sampling: { ...SAMPLING, ...more } });

  test.each<['vllm' | 'sglang' | 'llama.cpp', object, object, RegExp | undefined]>([
    ['vllm', {}, { topP: 0.5, topK: 3 }, undefined], // raw ones at temperature 1 are full whatever is truncated
    ['vllm', {}, { temperature: 0.5 }, /at temperature 1, not at `temperature`/],
    ['vllm', { processed: true }, { temperature: 0.5 }, undefined],
    ['vllm', { processed: true }, { topP: 0.5 }, /of the tokens that topP, topK, minP and repetitionPenalty leave/],
    ['sglang', {}, { temperature: 0.5, topP: 0.5 }, undefined],
    ['sglang', {}, { repetitionPenalty: 1.1 }, /taken after the repetition penalty/],
    ['llama.cpp', {}, { temperature: 0.5 }, undefined],
    ['llama.cpp', {}, { topP: 0.5 }, undefined],
    ['llama.cpp', {}, { temperature: 0.5, topP: 0.5 }, /not of the full distribution/],
  ])('%s %j with %j: %s', async (kind, more, sampling, message) => {
    const server = await start({ kind, ...more });
    const got = ask([server], frozen, at(sampling));
    if (message) await expect(got).rejects.toThrow(message);
    else same(await got, at(sampling));
    same(await ask([server], { ...frozen, samplerLogps: false }, at(sampling)), at(sampling), false);
  });

  test('llama.cpp leaves out a token: the whole call has none, and it is said', async () => {
    const server = await start({ kind: 'llama.cpp', fault: (n) => (n === 3 ? 'few-logps' : undefined) });
    expect(await warningsOf(async () => same(await ask([server], frozen), request(), false))).toEqual([
      expect.stringContaining('without the sampler correction'),
    ]);
  });

  test('evaluations have none', async () => {
    const asked = request({ purpose: 'eval', sampling: { ...SAMPLING, temperature: 0 } });
    same(await ask([await start()], frozen, asked), asked, false);
  });
});

describe('weights', () => {
  const load = (rollout: ReturnType<typeof openAICompatible>, policyVersion: number, folder = '/w') =>
    rollout.syncWeights!.hook({ folder, policyVersion, step: policyVersion, signal: new AbortController().signal });
  const synced = (version: number, more: Parameters<typeof request>[0] = {}) =>
    request({ syncedVersion: version, policyVersion: version, syncedFolder: '/w', ...more });

  test.each(['vllm', 'sglang'] as const)('%s: loaded by its own calls, everywhere; completions say the version', async (kind) => {
    const servers = [await start({ kind }), await start({ kind })];
    const rollout = openAICompatible(options(servers, { every: 3, pathOnServer: (folder) => `/mnt${folder}` }));
    expect(rollout.syncWeights).toMatchObject({ every: 3 });
    await load(rollout, 5);
    expect(servers.map((s) => [s.reloads, s.version])).toEqual([[['/mnt/w'], 'step-5'], [['/mnt/w'], 'step-5']]);
    const got = (await rollout(synced(5))) as RolloutCompletion[][];
    expect(new Set(got.flat().map((c) => c.policyVersion))).toEqual(new Set([5]));
    expect(servers[0]!.requests.at(-1)!.headers['x-policy-version']).toBe('step-5');
    expect(servers[0]!.reloads).toHaveLength(1);
  }); // prettier-ignore

  test('an answer by other weights is dropped, and the server loads them before it is asked again', async () => {
    const servers = [await start({ kind: 'sglang' }), await start({ kind: 'sglang' })];
    const rollout = openAICompatible(options(servers));
    await load(rollout, 1);
    servers[0]!.version = 'default'; // it was started again, unnoticed
    const reports: RolloutReport[] = [];
    const got = (await rollout(synced(1, { reports }))) as RolloutCompletion[][];
    expect(close(got).map((g) => g.map(({ policyVersion: _, ...c }) => c))).toEqual(close(expected(request())));
    expect(reports[0]!.stale).toBeGreaterThan(0);
    expect(Object.values(reports[0]!.servers)[0]).toMatchObject({ outs: 1 });
    expect(servers[0]!.version).toBe('step-1');
    expect(servers[0]!.reloads.length).toBeGreaterThan(1);
  });

  test('dead and back, without a name for its weights: it gets them first', async () => {
    const server = await start({ older: true, root: '/w' });
    const rollout = openAICompatible(options([server]));
    await load(rollout, 1);
    await server.die();
    const got = rollout(synced(1));
    setTimeout(() => void server.listen(), 150);
    await got;
    expect(server.reloads).toEqual(['/w', '/w']);
    const order = server.requests.map((r) => r.path);
    expect(order.lastIndexOf('/collective_rpc')).toBeLessThan(order.indexOf('/v1/completions'));
  });

  test('one that cannot load now is out until it can; when none can it is an error', async () => {
    const servers = [await start(), await start()];
    const rollout = openAICompatible(options(servers, { retries: 1 }));
    await load(rollout, 1);
    await servers[1]!.die();
    await load(rollout, 2);
    expect(servers[0]!.version).toBe('step-2');
    await rollout(synced(2));
    await servers[1]!.listen();
    await new Promise((resolve) => setTimeout(resolve, 50));
    servers[0]!.options.seconds = 0.2;
    await rollout(synced(2, { prompts: prompts(9) }));
    expect(servers[1]!.version).toBe('step-2'); // brought back, with the weights
    await Promise.all(servers.map((s) => s.die()));
    await expect(load(rollout, 3)).rejects.toMatchObject({ code: 'ERR_ROLLOUT', message: expect.stringMatching(/^No server has loaded the weights: .*ECONNREFUSED/) });
  }); // prettier-ignore

  test('an older vLLM must serve the folder that is written; one without reload calls says what to start it with', async () => {
    const fits = openAICompatible(options([await start({ older: true, root: '/w' })]));
    await load(fits, 1);
    const other = openAICompatible(options([await start({ older: true, root: '/elsewhere' })]));
    await expect(load(other, 1)).rejects.toThrow(/serves \/elsewhere and takes no path of others.*start it with \/w/);
    const none = openAICompatible(options([await start({ noReload: true })]));
    await expect(load(none, 1)).rejects.toThrow(/VLLM_SERVER_DEV_MODE=1/);
  });

  test('llama.cpp: by a function of the user, which may restart it', async () => {
    const server = await start({ kind: 'llama.cpp' });
    await expect(load(openAICompatible(options([server])), 1)).rejects.toThrow(/cannot load weights while it runs/);
    const seen: unknown[] = [];
    const rollout = openAICompatible(
      options([server], {
        reload: async ({ url, folder, policyVersion }) => {
          seen.push([url, folder, policyVersion]);
          await server.die();
          setTimeout(() => void server.listen(), 100); // as one that takes its time to start
        },
      }),
    );
    await load(rollout, 4);
    expect(seen).toEqual([[server.url, '/w', 4]]);
    await rollout(synced(4));
  });

  test('another rank, which did not hand them over, knows by the request what to expect', async () => {
    const server = await start({ kind: 'sglang' });
    await load(openAICompatible(options([server])), 7);
    const other = openAICompatible(options([server]));
    const reports: RolloutReport[] = [];
    await other(synced(7, { reports }));
    expect([reports[0]!.stale, server.reloads.length]).toEqual([0, 1]);
    server.version = 'default';
    await other(synced(7, { reports }));
    expect([reports[1]!.stale > 0, server.version]).toEqual([true, 'step-7']);
  });
});

test.each<[object, RegExp]>([
  [{}, /addresses like 'http:\/\/127.0.0.1:8000' for urls/],
  [{ urls: [] }, /at least one address/],
  [{ urls: 'localhost:80' }, /addresses like/],
  [{ urls: ['http://a', 'http://a/v1/'] }, /each server once/],
  [{ urls: 'http://a', server: 'tgi' }, /one of 'auto', 'vllm', 'sglang', 'llama.cpp'/],
  [{ urls: 'http://a', retires: 2 }, /retries/],
  [{ urls: 'http://a', maxConcurrency: 0 }, /maxConcurrency/],
  [{ urls: 'http://a', server: 'llama.cpp' }, /cannot load weights while it runs/],
  [{ urls: 'http://a', reload: 'none', every: 2 }, /every is of the weights' hand-over/],
  [{ urls: 'http://a', reload: 'yes' }, /'auto', 'none' or a function/],
])('bad options %j', (given, message) => {
  expect(() => openAICompatible(given as OpenAICompatibleOptions)).toThrow(message);
});
