// The case table of test/ops on the CUDA kernels: the real .cu files, executed by the simulator.
import { afterAll, describe, expect, test } from '@jest/globals';
import { groupAdvantages, grpoLoss } from '../../lib/index.js';
import { core, substituteCore } from '../../lib/native.js';
import { Random } from '../support/random.js';
import { sweep } from '../support/sweep.js';
import { simulator } from '../simulator/simulator.js';

const COUNT = Number(process.env.FUSED_GRPO_SWEEP ?? 150);
const sim = simulator();
afterAll(() => substituteCore(undefined));

const BACKENDS = [
  { name: 'sm_80, one block a row', arch: 'sm_80', variant: 'block', multiprocessors: 2 },
  { name: 'sm_90, one cluster a row', arch: 'sm_90', variant: 'cluster', multiprocessors: 2 },
] as const;

describe.each(BACKENDS)('$name', ({ name, ...device }) => {
  test(`${COUNT} random cases`, () => {
    substituteCore(sim);
    for (let seed = 1; seed <= COUNT; ++seed) {
      sim.configure({ ...device, seed });
      sweep(name, seed, seed);
    }
    const kernels = new Set(sim.lastLaunches().map((l) => l.kernel));
    expect([...kernels].join(' ')).toMatch(device.variant === 'block' ? /rows_block/ : /rows_cluster/);
  });
});

test('advantages made in the fused op are those of the CPU', () => {
  const r = new Random(3);
  for (let i = 0; i < 60; ++i) {
    const [groups, size] = [1 + r.below(4), 1 + r.below(40)];
    const rewards = Float64Array.from({ length: groups * size }, () => r.pick([0, 1, 0.1, r.normal(), 1e6 + r.normal()]));
    const options = {
      numGenerations: size,
      scaleRewards: r.pick(['group', 'batch', 'none'] as const),
      baseline: r.pick(['group_mean', 'leave_one_out', 'batch_mean', 'none'] as const),
      transform: r.pick(['none', 'rank'] as const),
      ddof: r.pick([0, 1] as const),
    };
    const run = () => groupAdvantages(rewards, options);
    substituteCore(undefined);
    const cpu = run();
    substituteCore(sim);
    sim.configure({ arch: 'sm_90', multiprocessors: 3, seed: i + 1 });
    const cuda = run();
    expect(cuda.zeroStd).toEqual(cpu.zeroStd);
    for (const what of ['advantages', 'mean', 'std'] as const)
      cuda[what].forEach((v, k) => expect(Math.abs(v - cpu[what][k]!)).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(cpu[what][k]!))));
  }
});

test.each(['float32', 'bfloat16'] as const)('rewards to gradient in two launches, one on the logits: %s', (dtype) => {
  const V = 5003;
  const r = new Random(1);
  const values = Float32Array.from({ length: 4 * V }, () => r.normal());
  const logits = () =>
    dtype === 'float32' ? values.slice() : Uint16Array.from(values, (v) => new Uint32Array(Float32Array.of(v).buffer)[0]! >>> 16);
  const run = () =>
    grpoLoss(
      {
        logits: logits(),
        dtype,
        vocabSize: V,
        targets: Int32Array.of(1, 5002, 7, 0),
        rewards: [1, 0, 0, 1],
        numGenerations: 4,
        completionLength: 1,
      },
      { lossType: 'grpo' },
    );
  substituteCore(undefined);
  const cpu = run();
  substituteCore(sim);
  sim.configure({ arch: 'sm_90', multiprocessors: 1, seed: 1 });
  sim.lastLaunches();
  const cuda = run();
  expect(sim.lastLaunches().length).toBe(2);
  expect(cuda.loss).toBeCloseTo(cpu.loss, 6);
  expect(cuda.groups!.mean).toEqual(cpu.groups!.mean);
  cuda.advantages.forEach((v, k) => expect(v).toBeCloseTo(cpu.advantages[k]!, 6));
});

test.each(BACKENDS)("the engine's self-test passes on $name, with the error that exp2 has there", ({ name: _, ...device }) => {
  for (let seed = 1; seed <= 30; ++seed) {
    sim.configure({ ...device, seed });
    expect(sim.selfTest()).toBe('');
  }
});

test('the substitute is what ran', () => {
  substituteCore(sim);
  expect(core().simd()).toBe('cuda-simulated');
});
