// Calls of the C ABI with several mistakes at once, of every kind, at random: a status each time, and nothing written.
import { expect, test } from '@jest/globals';
import { Random } from '../support/random.js';
import { GOOD, written, type GoodCall } from './calls.js';
import { UNSET, abi, ffi } from './library.js';

const OPS = Object.keys(GOOD);

// Sizes are never larger than the arrays, which no library could notice.
test('random bad calls', () => {
  const random = new Random(11);
  const count = Number(process.env.FUSED_GRPO_BAD_CALLS ?? 4000);
  const seen = new Map<string, number>();
  for (let i = 0; i < count; ++i) {
    const c = GOOD[random.pick(OPS)]!();
    for (let k = 1 + random.below(3); k > 0; --k) spoil(random, c);
    const before = written(c);
    const outcome = c.run();
    seen.set(outcome.status, (seen.get(outcome.status) ?? 0) + 1);
    if (outcome.status === 'FG_OK') continue;
    expect(outcome.message.length).toBeGreaterThan(10);
    if (outcome.argument !== 'logits') expect(written(c).equals(before)).toBe(true);
  }
  for (const status of ['FG_OK', 'FG_INVALID_ARG', 'FG_NON_FINITE', 'FG_STRUCT_SIZE', 'FG_SCRATCH_TOO_SMALL', 'FG_INCOMPATIBLE_OPTIONS'])
    expect(seen.get(status)).toBeGreaterThan(0);
});

function spoil(r: Random, c: GoodCall): void {
  const struct = c.structs[r.pick(Object.keys(c.structs))]!;
  const [field, place] = r.pick(Object.entries(abi.structs[struct.type]!.fields));
  const type = place.replace(/^\d+ \d+ /, '');
  if (r.chance(0.3)) {
    const array = c.arrays[r.pick(Object.keys(c.arrays).filter((n) => n !== 'metrics'))]!;
    if (array.length) array[r.below(array.length)] = r.pick([NaN, Infinity, -1, 1e30, 3]);
  } else if (type.endsWith('*')) {
    const other = c.arrays[r.pick(Object.keys(c.arrays))]!;
    if (field !== 'pool') struct.set({ [field]: type.includes('uint8_t') ? null : r.pick([null, null, ffi.address(other) + 1n]) });
  } else if (type === 'double') struct.set({ [field]: r.pick([NaN, Infinity, -1, 0, 0.5, 2, 1e300, UNSET]) });
  else if (type === 'int64_t')
    struct.set({ [field]: r.pick([-1n, 0n, 1n, field.endsWith('stride') ? 2n : 1n << 32n, -(1n << 63n), (1n << 63n) - 1n]) });
  else if (type === 'size_t') struct.set({ [field]: field === 'struct_size' ? r.pick([0n, 1n, 1n << 50n, 5000n]) : r.pick([0n, 1n, 5n]) });
  else if (!type.startsWith('char') && type !== 'fg_status')
    struct.set({ [field]: r.pick([-1, field === 'advantages_per_token' ? 2 : 1, 2, 3, 7, 12, 13, 0x7fffffff]) });
}
