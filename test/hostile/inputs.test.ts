// Inputs that change, lie or lie in shared memory: what each of them did before it was refused or copied is in the test's name.
import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as api from '../../lib/index.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { Random } from '../support/random.js';

const { GOOD } = require('./good-calls.cjs') as { GOOD: Record<string, (r: Random) => unknown[]> };
const ops = api as unknown as Record<string, (...args: unknown[]) => unknown>;
const dist = join(__dirname, '../../dist/cjs');

const thrownBy = (run: () => unknown): unknown => {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
};
const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARG' });

/** A script in a process of its own, with the built package as `api`. `limit`: of its address space, in kilobytes. */
function child(body: string, limit?: number) {
  const script = `const api = require(${JSON.stringify(join(dist, 'index.js'))});\n${body}`;
  const command = limit === undefined ? 'exec "$0" -e "$1"' : `ulimit -v ${limit}; exec "$0" -e "$1"`;
  const { status, signal, stdout, stderr } = spawnSync('bash', ['-c', command, process.execPath, script], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, signal, stdout: stdout.trim(), stderr };
}

/** The object, and how often each of its properties is read. */
function counted<T extends object>(of: T): [T, Record<string, number>] {
  const reads: Record<string, number> = {};
  const get = (target: T, key: string) => ((reads[key] = (reads[key] ?? 0) + 1), (target as Record<string, unknown>)[key]);
  return [new Proxy(of, { get: get as never }), reads];
}

describe('every property is read once', () => {
  test.each(Object.keys(GOOD))('%s', (name) => {
    for (let seed = 0; seed < 40; ++seed) {
      const args = GOOD[name]!(new Random(seed));
      const watched = args.map((arg) => (Object.getPrototypeOf(arg) === Object.prototype ? counted(arg as object) : undefined));
      ops[name]!(...args.map((arg, i) => watched[i]?.[0] ?? arg));
      for (const [, { logits = 0, ...reads }] of watched.filter((w) => w !== undefined)) {
        expect(logits).toBeLessThanOrEqual(2); // once more to see whether it is a Tensor
        expect(Object.entries(reads).filter(([, n]) => n > 1)).toEqual([]);
      }
    }
  });
});

describe('memory that changes during the call', () => {
  const V = 5;
  const batch = (targets: Int32Array, logits: Float32Array) => ({
    ...{ logits, vocabSize: V, targets, completionLength: 2 },
    advantages: Float32Array.of(1, -1),
  });

  test('targets in the memory of the logits, which are overwritten: ids were read again afterwards, and were addresses', () => {
    const apart = new Float32Array(4 * V).map((_, i) => Math.sin(i));
    const together = new Float32Array(4 * V + 4);
    together.set(apart);
    const ids = [1, 0, 4, 2];
    const overlapping = new Int32Array(together.buffer, 4 * 4, 4);
    overlapping.set(ids);
    apart.set(new Float32Array(Int32Array.from(ids).buffer), 4);
    const expected = api.grpoLoss(batch(Int32Array.from(ids), apart));
    const kept = api.grpoLoss(batch(overlapping, together.subarray(0, 4 * V)), { inPlace: false });
    const result = api.grpoLoss(batch(overlapping, together.subarray(0, 4 * V)));
    expect({ ...kept }).toEqual({ ...result });
    expect(result.loss).toBe(expected.loss);
    expect(result.gradLogits).toEqual(expected.gradLogits);
  });

  test('another thread writes offsets, targets, mask, rewards and logits all the while', () => {
    const { status, signal, stdout } = child(`
      const { Worker } = require('node:worker_threads');
      const shared = (Class, values) => { const a = new Class(new SharedArrayBuffer(values.length * Class.BYTES_PER_ELEMENT)); a.set(values); return a; };
      const N = 64, V = 300, B = 8;
      const a = { logits: shared(Float32Array, Array.from({ length: N * V }, (_, i) => Math.sin(i))), targets: shared(Int32Array, new Array(N).fill(1)),
        offsets: shared(Int32Array, Array.from({ length: B + 1 }, (_, i) => 8 * i)), mask: shared(Uint8Array, new Array(N).fill(1)),
        rewards: shared(Float64Array, Array.from({ length: B }, (_, i) => i)), groupOffsets: shared(Int32Array, [0, 4, 8]) };
      const writer = new Worker(\`const { workerData: a, parentPort } = require('node:worker_threads'); let i = 0; parentPort.postMessage('on');
        const odd = [1e9, -5, 0x7fffffff, 1, 0, 3];
        for (;;) { const v = odd[i++ % 6]; a.targets.fill(v); a.offsets[4] = i % 3 ? 32 : v; a.groupOffsets[1] = i % 3 ? 4 : v; a.mask.fill(i & 1);
          a.rewards.fill(i & 1 ? NaN : 1); a.logits.fill(i % 7); a.targets.fill(1); a.rewards.fill(0.5); a.groupOffsets[1] = 4; a.offsets[4] = 32; }\`, { eval: true, workerData: a });
      writer.once('message', () => {
        const seen = {};
        for (let i = 0; i < 3000; ++i) {
          try { api.grpoLoss({ ...a, vocabSize: V }, { transform: 'rank', inPlace: i % 2 === 0 }); seen.ok = (seen.ok ?? 0) + 1; }
          catch (e) { seen[e.code] = (seen[e.code] ?? 0) + 1; }
        }
        console.log(JSON.stringify(seen));
        process.exit(0);
      });`);
    expect({ status, signal }).toEqual({ status: 0, signal: null });
    const seen = JSON.parse(stdout) as Record<string, number>;
    expect(seen.ok).toBeGreaterThan(0);
    expect(Object.keys(seen).filter((k) => !['ok', 'ERR_INVALID_ARG', 'ERR_NON_FINITE'].includes(k))).toEqual([]);
  });

  test('a getter on Object.prototype: it ran between the reading of pointers and their use', () => {
    const { status, signal, stdout } = child(`
      const logits = new Float32Array(1 << 22);
      let ran = 0;
      Object.defineProperty(Object.prototype, 'mask', { configurable: true, get() { ++ran; if (logits.length) structuredClone(logits.buffer, { transfer: [logits.buffer] }); } });
      Object.defineProperty(Object.prototype, 'truncated', Object.getOwnPropertyDescriptor(Object.prototype, 'mask'));
      const core = require(${JSON.stringify(join(dist, 'native.js'))}).core();
      core.selectiveLogp({ rows: 1, sequences: 1, offsets: Int32Array.of(0, 1), logits, dtype: 0, vocab: 1 << 22, rowStride: 1 << 22, sequenceStride: 0,
        targets: Int32Array.of(1), temperature: 1, entropy: false });
      console.log(ran);`);
    expect({ status, signal, stdout }).toEqual({ status: 0, signal: null, stdout: '0' });
  });

  test('a Tensor from a SharedArrayBuffer: was an error without a code', async () => {
    const shared = new Float32Array(new SharedArrayBuffer(16));
    shared.set([1, 2, 3, 4]);
    const tensor = api.Tensor.from(shared.subarray(1), [3]);
    expect(await tensor.toArray()).toEqual(Float32Array.of(2, 3, 4));
    tensor.dispose();
  });
});

describe('lengths', () => {
  const huge = () => new Array<number>(2 ** 32 - 1);
  test.each<[string, () => unknown]>([
    ['a sparse array of rewards', () => api.groupAdvantages(huge(), { numGenerations: 1 })],
    ['... of arrays of rewards', () => api.multiRewardAdvantages(huge() as never, { numGenerations: 1 })],
    [
      'a Proxy that claims 2^40 rewards',
      () => api.groupAdvantages(new Proxy([1, 2], { get: (t, k) => (k === 'length' ? 2 ** 40 : t[k as never]) }), { numGenerations: 1 }),
    ],
    ['2^30 completions in each of three groups', () => api.informativeGroups(new Uint8Array(3), { numGenerations: 2 ** 30 })],
    [
      'an own property called length',
      () => api.groupAdvantages([1, 2], { groupOffsets: Object.defineProperty(Int32Array.of(0, 1), 'length', { value: 2 ** 40 }) }),
    ],
    [
      '2^32 positions',
      () =>
        api.processAdvantages({
          stepRewards: [],
          stepEnds: new Int32Array(0),
          stepOffsets: Int32Array.of(0, 0),
          numGenerations: 1,
          completionLength: 2 ** 32,
        }),
    ],
  ])('%s', (_, run) => {
    const begin = performance.now();
    expect(thrownBy(run)).toEqual(invalid);
    expect(performance.now() - begin).toBeLessThan(1000); // before any work
  });

  test('more than the machine has: V8 ended the process', () => {
    const { status, stdout, stderr } = child(
      `try { api.processAdvantages({ stepRewards: [], stepEnds: new Int32Array(0), stepOffsets: Int32Array.of(0, 0), numGenerations: 1, completionLength: 2 ** 31 - 1 }); }
       catch (e) { console.log(e.code); }`,
      8_000_000,
    );
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'ERR_OUT_OF_MEMORY', stderr: '' });
  });
});

describe('objects that are not what they seem', () => {
  const revoked = <T extends object>(of: T): T => {
    const { proxy, revoke } = Proxy.revocable(of, {});
    revoke();
    return proxy;
  };
  test('revoked Proxies everywhere', () => {
    expect(thrownBy(() => api.groupAdvantages(revoked([1]), { numGenerations: 1 }))).toEqual(invalid);
    expect(thrownBy(() => api.groupAdvantages([1], revoked({ numGenerations: 1 })))).toEqual(invalid);
    expect(thrownBy(() => api.selectiveLogp(revoked({}) as never))).toEqual(invalid);
    expect(thrownBy(() => api.grpoLoss({ logits: revoked({}) } as never))).toEqual(invalid);
    expect(thrownBy(() => api.informativeGroups(revoked({}) as never, { numGenerations: 1 }))).toEqual(invalid);
    expect(thrownBy(() => new api.GRPOTrainer(revoked({}) as never))).toEqual(invalid);
  });

  test('no object at all', () => {
    for (const nothing of [null, undefined, 3] as never[]) {
      expect(thrownBy(() => api.gae(nothing))).toEqual(invalid);
      expect(thrownBy(() => api.grpoLoss(nothing))).toEqual(invalid);
      expect(thrownBy(() => new api.GRPOTrainer(nothing))).toEqual(invalid);
      expect(thrownBy(() => new api.SFTTrainer(nothing))).toEqual(invalid);
      expect(thrownBy(() => new api.RewardTrainer(nothing))).toEqual(invalid);
    }
  });

  test('a forged array, a Proxy of a Tensor, an heir of Tensor, a Tensor with another shape', () => {
    const forged = { length: 1, 0: 1, [Symbol.toStringTag]: 'Float32Array' };
    expect(thrownBy(() => api.preferenceLoss({ chosenRewards: forged as never, rejectedRewards: forged as never }))).toEqual(invalid);
    const tensor = api.Tensor.from(new Float32Array(4), [2, 2]);
    const batch = { vocabSize: 2, targets: Int32Array.of(0, 1) };
    for (const logits of [new Proxy(tensor, {}), Object.create(api.Tensor.prototype) as typeof tensor])
      expect(thrownBy(() => api.selectiveLogp({ logits, ...batch }))).toEqual(invalid);
    expect(() => ((tensor as { shape: unknown }).shape = [1e9, 1e9])).toThrow('read only');
    tensor.dispose();
  });

  test('a constructor that throws: the message failed, in place of the check', () => {
    const odd = {
      get constructor() {
        throw new Error('mine');
      },
    };
    expect(thrownBy(() => api.groupAdvantages(odd as never, { numGenerations: 1 }))).toEqual(invalid);
  });

  test('prompts and completions', async () => {
    const policy = await api.Policy.load(demoModel());
    const prompt = Int32Array.of(5);
    for (const bad of [
      null,
      [null],
      [{ tokens: 'x' }],
      [{ tokens: prompt, promptIndex: 'map' }],
      [{ tokens: prompt, promptIndex: -1 }],
    ] as never[])
      await expect(policy.score([prompt], bad)).rejects.toEqual(invalid);
    await expect(policy.generate(new Array(2 ** 32 - 1))).rejects.toEqual(invalid);
    expect(thrownBy(() => policy.render(new Array(2 ** 32 - 1)))).toEqual(invalid); // took a minute and a half
    for (const bad of [null, 'text', [1], Int32Array.of(-1)] as never[]) expect(thrownBy(() => policy.decode(bad))).toEqual(invalid);
    policy.dispose();
  });

  test('a conversation whose reading transfers a prompt that was read before', async () => {
    const policy = await api.Policy.load(demoModel());
    const ids = Int32Array.of(5, 6, 7);
    const sampled = await policy.generate([ids, '1+2='], { maxNewTokens: 2, seed: 1, temperature: 0 });
    const prompts = new Proxy<(Int32Array | string)[]>([ids, '1+2='], {
      get: (t, k) => (k === '1' && ids.length && structuredClone(ids.buffer, { transfer: [ids.buffer] }), t[k as never]),
    });
    const again = await policy.generate(prompts, { maxNewTokens: 2, seed: 1, temperature: 0 });
    expect(ids.length).toBe(0);
    expect(again.completions.map((c) => c.tokens)).toEqual(sampled.completions.map((c) => c.tokens));
    policy.dispose();
  });
});
