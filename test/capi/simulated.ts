// The C ABI's GPU part over the simulator (scripts/capi-simulator.mjs): the real kernels and the real host code. The simulator's device
// memory faults when the host touches it.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Struct, abi, attemptBy, callerOf, ffi, root, type Outcome } from './library.js';

const file = execFileSync(process.execPath, [join(root, 'scripts/capi-simulator.mjs')], { encoding: 'utf8' }).trim();
export const on = callerOf(ffi.open(file));

function allocate(bytes: number): bigint {
  const out = new BigUint64Array(1);
  on('sim_allocate', BigInt(Math.max(bytes, 1)), out);
  return out[0]!;
}

/** Single results, which are the host's. */
export const OF_HOST = ['loss', 'clip_ratio', 'accuracy', 'margin'];

/** What fg_cuda_scratch is asked for: `count`, `pairs`, or the layout's rows. */
function sizeOf(args: Struct): number {
  const name = ['count', 'pairs'].find((n) => n in abi.structs[args.type]!.fields);
  const layout = args.all().find((s) => s.type === 'fg_layout');
  return name ? args.get(name) : layout!.get('rows');
}
export function cudaScratch(args: Struct): number {
  const bytes = new BigUint64Array(1);
  if (on('fg_cuda_scratch', BigInt(sizeOf(args)), bytes, null) !== 0) throw new Error('fg_cuda_scratch');
  return Number(bytes[0]);
}

/** The call on the device, where its arrays are moved to; run() gives what came of it, and brings the arrays back. */
export function onDevice(op: string, args: Struct, options: (Struct | undefined)[]) {
  const bytes = cudaScratch(args);
  const scratch = allocate(bytes); // never written: what an op reads there it has written itself
  args.set({ scratch, scratch_bytes: bytes });
  const moved = new Map<ArrayBufferView, bigint>();
  for (const struct of args.all())
    for (const [field, view] of struct.arrays()) {
      if (OF_HOST.includes(field)) continue;
      if (!moved.has(view)) moved.set(view, allocate(view.byteLength));
      on('sim_copy_in', moved.get(view), view, BigInt(view.byteLength));
      struct.set({ [field]: moved.get(view)! });
    }
  const run = (): Outcome => {
    const outcome = attemptBy(on, `fg_${op}_cuda`, args, ...options.filter((o) => o !== undefined), null);
    for (const [view, device] of moved) on('sim_copy_out', view, device, BigInt(view.byteLength));
    for (const device of [scratch, ...moved.values()]) on('sim_release', device);
    return outcome;
  };
  return { scratch, bytes, run };
}
