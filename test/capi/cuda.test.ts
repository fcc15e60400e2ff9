// The GPU's part of the C ABI: the real kernels and the real host code, over the simulator. Its memory faults when the host touches it.
import { expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { GOOD, written, type GoodCall } from './calls.js';
import { Struct, abi, attempt, call, ffi, root, text } from './library.js';

const OPS = ['selective_logp', 'selective_logp_backward', 'policy_loss', 'grpo_loss', 'group_advantages'] as const;
const file = execFileSync(process.execPath, [join(root, 'scripts/capi-simulator.mjs')], { encoding: 'utf8' }).trim();
const simulated = ffi.open(file);
const pass = (x: Struct | ArrayBufferView | bigint | null): bigint =>
  x === null ? 0n : typeof x === 'bigint' ? x : ffi.address(x instanceof Struct ? x.bytes : x);
const on = (name: string, ...args: (Struct | ArrayBufferView | bigint | null)[]) => ffi.call(simulated, name, ...args.map(pass));

function toDevice(view: ArrayBufferView): bigint {
  const out = new BigUint64Array(1);
  on('sim_allocate', BigInt(Math.max(view.byteLength, 1)), out);
  on('sim_copy_in', out[0]!, view, BigInt(view.byteLength));
  return out[0]!;
}

/** The call with every array on the device; run() gives the error, and brings outputs back. */
function moved(op: string, change: (c: GoodCall) => void = () => {}) {
  const c = GOOD[op]!();
  change(c);
  const back: [bigint, ArrayBufferView][] = [];
  const rows = BigInt(op === 'group_advantages' ? 3 : 6);
  const bytes = new BigUint64Array(1);
  expect(on('fg_cuda_scratch', rows, bytes, null)).toBe(0);
  c.structs.args!.set({ scratch: new Uint8Array(Number(bytes[0])), scratch_bytes: bytes[0] });
  for (const struct of Object.values(c.structs))
    for (const [field, view] of struct.arrays()) {
      const device = toDevice(view);
      struct.set({ [field]: device });
      back.push([device, view]);
    }
  const run = () => {
    const error = new Struct('fg_error');
    const options = c.structs.options ? [c.structs.options] : [];
    const status = on(`fg_${op}_cuda`, c.structs.args!, ...options, null, error);
    for (const [device, view] of back)
      if (c.outputs.some((n) => c.arrays[n] === view)) on('sim_copy_out', view, device, BigInt(view.byteLength));
    return { status: text('fg_status_name', status), message: error.string('message'), argument: error.string('argument') };
  };
  return { c, run };
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
  const mine = to.arrays().find(([name]) => name === field)![1];
  new Uint8Array(mine.buffer, mine.byteOffset, mine.byteLength).set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
}

test.each([
  ['selective_logp', 'args', 'targets', Int32Array.of(0, 1, 1, 0, 5, 0), 'targets[4] (sequence 2, token 2) but received 5'],
  ['grpo_loss', 'batch', 'old_logps', Float32Array.of(0, NaN, 0, 0, 0, 0), 'old_logps[1] (sequence 0, token 1) but received NaN'],
  ['policy_loss', 'args', 'logps', Float32Array.of(0, 0, 0, 0, 0, NaN), 'logps[5] (sequence 2, token 3) but received NaN'],
  ['group_advantages', 'args', 'rewards', Float64Array.of(0, NaN, 0), 'rewards[1] but received NaN'],
  ['grpo_loss', 'layout', 'offsets', Int32Array.of(0, 3, 2, 6), 'layout.offsets[2] but received 2'],
] as [string, string, string, Float32Array | Float64Array | Int32Array, string][])(
  '%s names %s.%s: %j',
  (op, struct, field, values, message) => {
    const { c, run } = moved(op, (good) => void good.structs[struct]!.set({ [field]: values }));
    const before = written(c);
    const { status, message: said } = run();
    expect(status).toMatch(/^FG_(INVALID_ARG|NON_FINITE)$/);
    expect(said).toContain(message);
    if (op !== 'group_advantages') expect(written(c).equals(before)).toBe(true);
  },
);

test('a device that fails', () => {
  const { run } = moved('grpo_loss');
  on('sim_fail', 1n);
  try {
    expect(run()).toMatchObject({ status: 'FG_CUDA_FAILED', message: 'cudaStreamSynchronize: illegal address' });
  } finally {
    on('sim_fail', 0n);
  }
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
