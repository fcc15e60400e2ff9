// The case table of test/ops on the CUDA kernels: the real .cu files, executed by the simulator and on a GPU.
import { expect, test } from '@jest/globals';
import { groupAdvantages, grpoLoss } from '../../lib/index.js';
import { core, substituteCore } from '../../lib/native.js';
import { BACKENDS, KERNELS, onEach } from '../backends/table.js';
import { Random } from '../support/random.js';
import { sweep } from '../support/sweep.js';

const COUNT = Number(process.env.FUSED_GRPO_SWEEP ?? 150);

onEach('the loss', KERNELS, (kernel) => {
  test(`${COUNT} random cases`, () => {
    for (let seed = 1; seed <= COUNT; ++seed) {
      kernel.use(seed);
      sweep(kernel.name, seed, seed);
    }
    const launched = kernel.backend.launches?.().map((l) => l.kernel);
    if (launched) expect([...new Set(launched)].join(' ')).toMatch(kernel.variant === 'block' ? /rows_block/ : /rows_cluster/);
  });

  test("the engine's self-test passes, with the error that exp2 has there", () => {
    for (let seed = 1; seed <= 30; ++seed) {
      kernel.use(seed);
      expect(kernel.backend.addon().selfTest()).toBe('');
    }
  });
});

onEach('advantages', BACKENDS, (backend) => {
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
      substituteCore(backend.addon());
      backend.configure({ arch: 'sm_90', multiprocessors: 3, seed: i + 1 });
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
    substituteCore(backend.addon());
    backend.configure({ arch: 'sm_90', multiprocessors: 1, seed: 1 });
    backend.launches?.();
    const cuda = run();
    const launches = backend.launches?.();
    if (launches) expect(launches.length).toBe(2);
    expect(cuda.loss).toBeCloseTo(cpu.loss, 6);
    expect(cuda.groups!.mean).toEqual(cpu.groups!.mean);
    cuda.advantages.forEach((v, k) => expect(v).toBeCloseTo(cpu.advantages[k]!, 6));
  });

  test('the substitute is what ran', () => {
    substituteCore(backend.addon());
    expect(core().simd()).toBe(backend.name);
  });
});
