// The simulator finds planted mistakes, each by its name, and leaves their healthy twins alone, whatever the schedule.
import { describe, expect, test } from '@jest/globals';
import { simulator } from './simulator.js';

const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);

/** Where there are several names, which rule is hit first depends on the schedule. */
const MISTAKES: Record<string, string[]> = {
  'sync removed': ['race'],
  'shared array reused': ['race'],
  'sync_warp for sync': ['race'],
  'divergent lane': ['divergent warp operation'],
  'lane exits early': ['divergent warp operation'],
  'half of the block syncs': ['divergent barrier'],
  "named barrier's count": ['divergent barrier'],
  'off by one': ['out of bounds'],
  "shared array's end": ['out of bounds'],
  'uninitialised shared memory': ['uninitialised shared memory'],
  'raw dereference': ['raw dereference'],
  'misaligned vector': ['misaligned access'],
  'counter read too early': ['race'],
  'deep stack': ['stack overflow'],
  'two blocks write the same': ['race'],
  "reads another block's output": ['race'],
  'ticket without sync': ['race'],
  'aliasing tail': ['race'],
  'uninitialised global memory': ['uninitialised global memory'],
  'use after free': ['out of bounds'],
  'missing wait': ['missing wait'],
  'wrong parity': ['missing wait'],
  'too few bytes announced': ['missing wait', 'wrong byte count'],
  'too many bytes announced': ['deadlock'],
  'misaligned bulk copy': ['misaligned bulk copy'],
  'barrier not published': ['barrier not published'],
  'barrier not initialised': ['uninitialised barrier'],
  'too many arrivals': ['too many arrivals'],
  'missing proxy fence': ['missing proxy fence'],
  'copy over unread bytes': ['missing wait', 'race'],
  'source overwritten': ['race'],
  'peer exit': ['peer exit'],
  'peer exit after a remote read': ['peer exit'],
  "peer's barrier not published": ['barrier not published'],
  'slots reused': ['missing wait', 'race'],
  'one barrier for all rounds': ['deadlock', 'missing wait', 'wrong byte count'],
  'buffer not given back': ['deadlock'],
};

test('every planted mistake is listed here', () => {
  expect(simulator().plantedNames().sort()).toEqual(Object.keys(MISTAKES).sort());
});

describe.each(Object.entries(MISTAKES))('%s', (name, violations) => {
  test('is found', () => {
    for (const seed of SEEDS) expect([seed, violations]).toEqual([seed, expect.arrayContaining([simulator().planted(name, seed)?.name])]);
  });
  test('the healthy twin passes', () => {
    for (const seed of SEEDS) expect([seed, simulator().planted(name, seed, true)]).toEqual([seed, null]);
  });
});

test('a report says which kernel, block and thread', () => {
  expect(simulator().planted('off by one')!.message).toBe(
    'out of bounds: write of 4 bytes of global memory at offset 384 of 384 bytes (kernel one_past, block 0, thread 95)',
  );
  expect(simulator().planted('too many bytes announced')!.message).toMatch(/barrier waits for 0 arrivals and 16 bytes/);
});

test('the schedule follows from the seed', () => {
  const schedule = (seed: number) => {
    simulator().lastLaunches();
    simulator().planted('slots reused', seed, true);
    return simulator().lastLaunches()[0]!.schedule;
  };
  expect(SEEDS.map(schedule)).toEqual(SEEDS.map(schedule));
  expect(new Set(SEEDS.map(schedule)).size).toBe(SEEDS.length);
});

test('the traffic of a launch is counted', () => {
  simulator().lastLaunches();
  simulator().planted('aliasing tail', 1, true);
  const [launch] = simulator().lastLaunches();
  expect(launch).toMatchObject({ kernel: 'aliasing_tail', blocks: 1, threads: 64, cluster: 1 });
  expect(launch).toMatchObject({ readBytes: 2 * 412, rereadBytes: 412, writtenBytes: 412, wideBytes: 2 * 400, bulkBytes: 0 });
  simulator().planted('source overwritten', 1, true);
  expect(simulator().lastLaunches()[0]).toMatchObject({
    readBytes: 256,
    rereadBytes: 0,
    writtenBytes: 256,
    bulkBytes: 256,
    wideBytes: 256,
  });
});
