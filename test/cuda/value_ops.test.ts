// The token-sized ops on the CUDA kernels: the same random cases, mistakes and edges as on the CPU.
import { expect, test } from '@jest/globals';
import { gae, processAdvantages, valueLoss } from '../../lib/index.js';
import { substituteCore } from '../../lib/native.js';
import { BACKENDS, onEach, type Backend } from '../backends/table.js';
import { checkEdge } from '../support/edge.js';
import { Random } from '../support/random.js';
import { EDGES } from '../support/value_edges.js';
import { VALUE_OPS, valueSweep } from '../support/value_sweep.js';

const COUNT = Number(process.env.FUSED_GRPO_SWEEP ?? 300);

function use(backend: Backend, seed: number): void {
  substituteCore(backend.addon());
  backend.configure({ arch: seed % 2 ? 'sm_90' : 'sm_80', multiprocessors: 2, seed });
}

/** Results of B sequences of T tokens, of B / 4 groups, and of N tokens more. */
function large(B: number, T: number, N: number) {
  const r = new Random(1);
  const numbers = (n: number) => Float32Array.from({ length: n }, () => r.normal());
  const tokens = { rewards: numbers(B * T), values: numbers(B * T), completionLength: T };
  const ends = Int32Array.from({ length: B }, (_, i) => i * T + r.below(T));
  const steps = { stepRewards: numbers(B), stepEnds: ends, stepOffsets: Int32Array.from({ length: B + 1 }, (_, i) => i) };
  const many = { values: numbers(N), returns: numbers(N), completionLength: 1 };
  return {
    gae: gae(tokens, { whiten: true }).advantages,
    process: processAdvantages({ ...steps, completionLength: T, numGenerations: 4 }).advantages,
    loss: Float32Array.of(valueLoss(many).loss),
  };
}

onEach('token-sized ops', BACKENDS, (backend) => {
  test.each(VALUE_OPS)(
    `%s: ${COUNT} random cases`,
    (op) => {
      backend.launches?.();
      valueSweep(op, COUNT, (seed) => use(backend, seed));
      const launched = backend.launches?.().map((l) => l.kernel);
      if (launched) expect(launched).toContain('conclude_tallies');
    },
    Math.max(120_000, 200 * COUNT),
  );

  test.each(EDGES.map((edge) => [edge.name, edge] as const))('%s', (_name, edge) => {
    use(backend, 7);
    checkEdge(edge);
  });

  test('more sequences, groups and tokens than a launch has warps, blocks and threads (1024 blocks of 256)', () => {
    const run = () => large(8200, 1, 262_200);
    substituteCore(undefined);
    const cpu = run();
    use(backend, 3);
    const cuda = run();
    for (const what of Object.keys(cpu) as (keyof typeof cpu)[])
      cpu[what].forEach((want, i) => {
        if (!(Math.abs(cuda[what][i]! - want) <= 1e-6 * Math.max(1, Math.abs(want))))
          expect([what, i, cuda[what][i]]).toEqual([what, i, want]);
      });
  });

  test('the same bits from run to run', () => {
    const runs = [1, 2].map((seed) => (use(backend, seed), large(60, 70, 2000)));
    expect(runs[1]).toEqual(runs[0]);
  });
});
