// Structs of other versions, scratch, errors, offsets and pools of the C ABI.
import { describe, expect, test } from '@jest/globals';
import { GOOD, afterMistake, set, written } from './calls.js';
import { Struct, abi, attempt, call, scratchFor } from './library.js';

const OPS = Object.keys(GOOD);

describe('structs and scratch', () => {
  const structs = OPS.flatMap((op) => Object.keys(GOOD[op]!().structs).map((struct) => [op, struct] as const));
  test.each(structs)('%s: %s of a size that no version had', (op, struct) => {
    for (const size of [0n, 8n, -1, 1n << 40n, BigInt(abi.structs[GOOD[op]!().structs[struct]!.type]!.size - 8)]) {
      const outcome = afterMistake(op, (c) => new DataView(c.structs[struct]!.bytes.buffer).setBigInt64(0, BigInt(size), true));
      expect(outcome).toMatchObject({ status: 'FG_STRUCT_SIZE', argument: `${struct}.struct_size` });
    }
  });

  test.each(OPS)('%s: arguments of a newer header: zeros are understood, the unknown is not', (op) => {
    const c = GOOD[op]!();
    const { bytes, type } = c.structs.args!;
    const longer = new Uint8Array(new ArrayBuffer(bytes.length + 16));
    longer.set(bytes);
    new DataView(longer.buffer).setBigInt64(0, BigInt(longer.length), true);
    const rest = [c.structs.options, c.structs.exec].filter((s) => s !== undefined);
    expect(attempt(`fg_${op}`, longer, ...rest).status).toBe('FG_OK');
    longer[longer.length - 1] = 1;
    const refused = attempt(`fg_${op}`, longer, ...rest);
    expect(refused).toMatchObject({ status: 'FG_STRUCT_SIZE', argument: 'args.struct_size' });
    expect(refused.message).toContain(`a size of ${type}`);
    expect(attempt(`fg_${op}`, null, ...rest)).toMatchObject({ status: 'FG_INVALID_ARG', argument: 'args' });
  });

  // Of the four that have grown: what programs compiled with the first header give.
  test.each([
    ['pass_at_k_advantages', 64],
    ['rewards_with_kl', 64],
    ['value_loss', 80],
    ['preference_loss', 96],
  ])('%s: arguments of the first header, %d bytes', (op, size) => {
    const [c, whole] = [GOOD[op]!(), GOOD[op]!()];
    const { args } = c.structs;
    for (const [field, view] of whole.structs.args!.arrays()) if (!c.outputs.includes(field)) args!.set({ [field]: view });
    const bytes = new Uint8Array(new ArrayBuffer(size + 16)).fill(0xaa);
    expect(call(`${args!.type}_init`, bytes, size)).toBe(0);
    expect([...bytes.subarray(size)]).toEqual(new Array<number>(16).fill(0xaa));
    expect([...bytes.subarray(8, size)]).toEqual([...new Struct(args!.type).bytes.subarray(8, size)]);
    bytes.set(args!.bytes.subarray(8, size), 8);
    expect(attempt(`fg_${op}`, bytes).message).toBe('');
    expect(whole.run().status).toBe('FG_OK');
    expect(written(c).equals(written(whole))).toBe(true);
  });

  test.each(Object.keys(abi.structs))('%s_init', (type) => {
    const { size } = abi.structs[type]!;
    const memory = new Uint8Array(new ArrayBuffer(size + 24)).fill(0xaa);
    for (const bad of [0n, BigInt(size - 1), 5000n, -1n]) expect(call(`${type}_init`, memory, bad)).toBe(abi.enums.FG_STRUCT_SIZE);
    expect(call(`${type}_init`, null, BigInt(size))).toBe(abi.enums.FG_INVALID_ARG);
    expect(call(`${type}_init`, memory.subarray(1), BigInt(size))).toBe(abi.enums.FG_INVALID_ARG);
    expect(memory.every((b) => b === 0xaa)).toBe(true);
    expect(call(`${type}_init`, memory, BigInt(size + 8))).toBe(0); // a newer header's: its end is 0
    expect([...memory.subarray(size)]).toEqual([...new Array<number>(8).fill(0), ...new Array<number>(16).fill(0xaa)]);
    expect(new DataView(memory.buffer).getBigUint64(0, true)).toBe(BigInt(size + 8));
  });

  const withScratch = OPS.filter((op) => `fg_${op}_scratch` in abi.functions);
  test.each(withScratch)('%s: scratch too small, and the query', (op) => {
    const needed = scratchFor(`fg_${op}`, GOOD[op]!().structs.args!).length;
    expect(needed).toBeGreaterThan(0);
    for (const bytes of [0, needed - 1])
      expect(afterMistake(op, set('args', 'scratch_bytes', bytes))).toMatchObject({
        status: 'FG_SCRATCH_TOO_SMALL',
        message: expect.stringContaining(`at least ${needed}`),
      });
    expect(attempt(`fg_${op}_scratch`, GOOD[op]!().structs.args, null)).toMatchObject({ status: 'FG_INVALID_ARG', argument: 'bytes' });
  });

  test('an error of a wrong size is not written; none at all is fine', () => {
    const c = GOOD.gae!();
    const error = new Struct('fg_error');
    new DataView(error.bytes.buffer).setBigInt64(0, 16n, true);
    const before = Buffer.from(error.bytes);
    expect(call('fg_gae', c.structs.args, error)).toBe(abi.enums.FG_STRUCT_SIZE);
    expect(before.equals(error.bytes)).toBe(true);
    expect(call('fg_gae', c.structs.args, null)).toBe(0);
    expect(call('fg_gae', null, null)).toBe(abi.enums.FG_INVALID_ARG);
  });

  test('uniform offsets and pools', () => {
    const to = new Int32Array(4);
    expect(attempt('fg_uniform_offsets', 3n, 5n, to).status).toBe('FG_OK');
    expect([...to]).toEqual([0, 5, 10, 15]);
    for (const [n, length] of [
      [-1n, 5n],
      [3n, -5n],
      [3n, 1n << 30n],
      [1n << 40n, 0n],
    ] as const)
      expect(attempt('fg_uniform_offsets', n, length, to).status).toBe('FG_INVALID_ARG');
    expect(attempt('fg_uniform_offsets', 3n, 5n, null).status).toBe('FG_INVALID_ARG');
    expect([...to]).toEqual([0, 5, 10, 15]);
    expect(call('fg_pool_threads', null)).toBe(0);
    call('fg_pool_destroy', null);
    const pool = new BigUint64Array(1);
    for (const threads of [-1n, 5000n]) expect(attempt('fg_pool_create', threads, pool).status).toBe('FG_INVALID_ARG');
    expect(attempt('fg_pool_create', 3n, null).status).toBe('FG_INVALID_ARG');
    expect(pool[0]).toBe(0n);
    expect(attempt('fg_pool_create', 3n, pool).status).toBe('FG_OK');
    expect(call('fg_pool_threads', pool[0])).toBe(3);
    const [alone, pooled] = [GOOD.grpo_loss!(), GOOD.grpo_loss!()];
    for (const c of [alone, pooled]) c.structs.logits!.set({ data: Float32Array.from({ length: 36 }, (_, i) => Math.sin(i)) });
    pooled.structs.batch = alone.structs.batch!;
    pooled.structs.args!.set({ batch: alone.structs.batch! });
    pooled.structs.exec!.set({ pool: pool[0] });
    for (const c of [alone, pooled]) expect(c.run().status).toBe('FG_OK');
    expect(written(pooled).equals(written(alone))).toBe(true);
    call('fg_pool_destroy', pool[0]);
  });
});
