// The GPU's part of the C ABI against its CPU's: the same results, and the same mistakes found.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { core, substituteCore } from '../../lib/native.js';
import { checkEdge } from '../support/edge.js';
import { EDGES } from '../support/value_edges.js';
import { VALUE_OPS, valueSweep } from '../support/value_sweep.js';
import { GOOD, WITHOUT_SCRATCH, set, written, type GoodCall } from './calls.js';
import { CONTENTS, OFFSETS } from './contents.js';
import { cudaBackend, cudaCalls } from './cuda_backend.js';
import { Struct, abi, attempt, attemptBy, call } from './library.js';
import { OF_HOST, cudaScratch, on, onDevice } from './simulated.js';

const OPS = Object.keys(GOOD);

/** A good call, changed, with its arrays on the device. */
function moved(op: string, change: (c: GoodCall) => void = () => {}) {
  const c = GOOD[op]!();
  change(c);
  return { c, ...onDevice(op, c.structs.args!, [c.structs.options]) };
}

const numbers = (c: GoodCall) => c.outputs.filter((n) => n !== 'metrics').flatMap((n) => [...c.arrays[n]!]);

test.each(OPS)('%s as on the CPU', (op) => {
  const cpu = GOOD[op]!();
  const same = (c: GoodCall) => {
    for (const [name, struct] of Object.entries(cpu.structs))
      for (const [field, view] of struct.arrays()) if (!c.outputs.includes(field)) copy(c.structs[name]!, field, view);
  };
  const { c, run } = moved(op, same);
  expect(run()).toMatchObject({ status: 'FG_OK', message: '' });
  expect(cpu.run().status).toBe('FG_OK');
  const [got, want] = [numbers(c), numbers(cpu)];
  expect(got).toHaveLength(want.length);
  // gaps between rows (77 on the CPU) are nobody's
  want.forEach((v, i) => expect(Math.abs(got[i]! - v)).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(v))));
  if (!cpu.structs.metrics) return;
  for (const field of Object.keys(abi.structs.fg_metrics!.fields))
    expect(c.structs.metrics!.get(field)).toBeCloseTo(cpu.structs.metrics.get(field), 5);
});

/** The other call's input, in an array of its own. */
function copy(to: Struct, field: string, view: ArrayBufferView): void {
  const mine = to.arrays().find(([name]) => name === field);
  if (!mine) return; // scratch of the CPU
  const { buffer, byteOffset, byteLength } = mine[1];
  new Uint8Array(buffer, byteOffset, byteLength).set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
}

describe('random cases and edges of the ops of rewards and critics', () => {
  beforeAll(() => substituteCore(cudaBackend(core())));
  afterAll(() => substituteCore(undefined));

  test.each(VALUE_OPS)('%s', (op) => {
    const before = cudaCalls();
    valueSweep(op, 40);
    expect(cudaCalls() - before).toBe(40);
  });
  test.each(EDGES.map((edge) => [edge.name, edge] as const))('%s', (_name, edge) => checkEdge(edge));
});

describe('mistakes', () => {
  // What the host reads is known before anything is written; what a kernel of these ops finds is known when it has.
  const READ_BY_HOST = ['offsets', 'group_offsets', 'step_offsets', 'step_ends', 'reward_weights'];
  const UNTOUCHED = ['selective_logp', 'selective_logp_backward', 'policy_loss', 'grpo_loss'];
  const bad = [...OFFSETS, ...CONTENTS.map(([op, struct, field, values]) => [op, struct, field, values] as const)];

  test.each(bad)('%s: %s.%s: %p, as on the CPU', (op, struct, field, values) => {
    const cpu = GOOD[op]!();
    set(struct, field, values)(cpu);
    const { c, run } = moved(op, set(struct, field, values));
    const before = written(c);
    const outcome = run();
    expect(outcome.status).toMatch(/^FG_(INVALID_ARG|NON_FINITE)$/);
    expect(outcome).toEqual(cpu.run());
    if (UNTOUCHED.includes(op) || READ_BY_HOST.includes(field)) expect(written(c).equals(before)).toBe(true);
    for (const name of OF_HOST) expect(c.arrays[name]?.[0] ?? 77).toBe(77);
  });

  test.each(OPS)('%s: scratch too small, none, misaligned', (op) => {
    const { c, scratch, bytes, run } = moved(op);
    const before = written(c);
    const { args, options } = c.structs;
    const outcomeOf = (values: Record<string, number | bigint | null>) => {
      args!.set({ scratch, scratch_bytes: bytes, ...values });
      return attemptBy(on, `fg_${op}_cuda`, args, ...(options ? [options] : []), null);
    };
    for (const scratch_bytes of [0, bytes - 1])
      expect(outcomeOf({ scratch_bytes })).toMatchObject({ status: 'FG_SCRATCH_TOO_SMALL', message: expect.stringContaining(`${bytes}`) });
    for (const wrong of [null, scratch + 8n])
      expect(outcomeOf({ scratch: wrong })).toMatchObject({ status: 'FG_INVALID_ARG', argument: 'scratch' });
    args!.set({ scratch });
    expect(run().status).toBe('FG_OK');
    expect(written(c).equals(before)).toBe(false);
  });

  test.each(WITHOUT_SCRATCH)('%s: arguments of the first header have no scratch', (op) => {
    const { c } = moved(op);
    new DataView(c.structs.args!.bytes.buffer).setBigInt64(0, BigInt(c.structs.args!.bytes.length - 16), true);
    const outcome = attemptBy(on, `fg_${op}_cuda`, c.structs.args, null);
    expect(outcome).toMatchObject({ status: 'FG_SCRATCH_TOO_SMALL', message: expect.stringMatching(/but received 0$/) });
  });

  test('scratch of more rows is not less', () => {
    const bytes = [0, 1, 2, 3, 31, 1000, 100_000].map((pairs) => cudaScratch(new Struct('fg_preference_loss_args', { pairs })));
    expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
    for (const rows of [-1n, 1n << 31n])
      expect(attemptBy(on, 'fg_cuda_scratch', rows, new BigUint64Array(1))).toMatchObject({
        status: 'FG_INVALID_ARG',
        argument: 'rows_or_count',
      });
  });

  test.each(OPS)('%s: a device that fails', (op) => {
    const { c, run } = moved(op);
    on('sim_fail', 1n);
    try {
      expect(run()).toMatchObject({ status: 'FG_CUDA_FAILED', message: 'cudaStreamSynchronize: illegal address' });
    } finally {
      on('sim_fail', 0n);
    }
    for (const name of OF_HOST) expect(c.arrays[name]?.[0] ?? 77).toBe(77);
  });
});

test('a library without CUDA says so', () => {
  expect([call('fg_has_cuda'), on('fg_has_cuda')]).toEqual([0, 1]);
  for (const op of OPS) {
    const c = GOOD[op]!();
    const before = written(c);
    const rest = c.structs.options ? [c.structs.options, null] : [null];
    expect(attempt(`fg_${op}_cuda`, c.structs.args, ...rest)).toMatchObject({
      status: 'FG_NO_CUDA',
      message: expect.stringContaining('-DFG_CUDA=ON'),
    });
    expect(written(c).equals(before)).toBe(true);
  }
  expect(attempt('fg_cuda_scratch', 5n, new BigUint64Array(1)).status).toBe('FG_NO_CUDA');
});
