import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { downsample, extent, format, mean, niceRange, percent, smooth, span, ticks, MAX_POINTS } from '../../lib/report/numbers.js';

test('means and extents skip what is missing', () => {
  expect(mean([1, NaN, 3])).toBe(2);
  expect(mean([NaN])).toBeNaN();
  expect(extent([NaN, 2, -1, Infinity])).toEqual([-1, 2]);
  expect(extent([])).toEqual([NaN, NaN]);
  expect(extent(new Float64Array(200_000))).toEqual([0, 0]); // no spread on the stack
});

test('downsampling keeps the mean, the extremes and the last step', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 2000 }), (y) => {
      const x = y.map((_, i) => i + 1);
      const thin = downsample(x, y);
      expect(thin.x.length).toBe(Math.min(y.length, MAX_POINTS));
      expect(thin.x.at(-1)).toBe(y.length);
      expect(extent([...thin.y, ...(thin.low ?? []), ...(thin.high ?? [])])).toEqual(extent(y));
    }),
    { numRuns: 50 },
  );
});

test('smoothing: constants stay, gaps stay, noise shrinks', () => {
  for (const v of smooth([3, 3, 3, 3], 5)) expect(v).toBeCloseTo(3, 12);
  expect(smooth([1, NaN, 1], 5)).toEqual([1, NaN, 1]);
  expect(Math.abs(smooth([1, -1, 1, -1, 1, -1, 1, -1], 8).at(-1)!)).toBeLessThan(0.3);
});

test('ticks are round, inside, and few', () => {
  expect(ticks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
  expect(ticks(-0.013, 0.011, 4)).toEqual([-0.01, 0, 0.01]);
  expect(ticks(5, 5, 4)).toEqual([5]);
  fc.assert(
    fc.property(fc.double({ min: -1e9, max: 1e9, noNaN: true }), fc.double({ min: 1e-6, max: 1e9, noNaN: true }), (low, width) => {
      const found = ticks(low, low + width, 5);
      expect(found.length).toBeLessThanOrEqual(7);
      for (const t of found) expect(t).toBeGreaterThanOrEqual(low - width * 1e-6 - Math.abs(low) * 1e-9);
    }),
  );
});

test('an axis is never empty', () => {
  for (const range of [
    [0, 0],
    [1, 1],
    [-3, -3],
    [NaN, NaN],
    [0, 1e-300],
  ] as [number, number][]) {
    const [low, high] = niceRange(range, false);
    expect(high).toBeGreaterThan(low);
  }
  expect(niceRange([2, 5], true)[0]).toBe(0);
});

test('numbers in words', () => {
  expect([0, 0.12345, 12.345, 1234.5, -2.5, 1e-7, 1e9, NaN].map(format)).toEqual([
    '0',
    '0.1235',
    '12.35',
    '1,235',
    '−2.5',
    '1e−7',
    '1e9',
    '–',
  ]);
  expect([0, 0.5, 0.053, 0.0012, 1].map(percent)).toEqual(['0 %', '50 %', '5.3 %', '0.12 %', '100 %']);
  expect([0.42, 59.6, 83, 7260].map(span)).toEqual(['0.4 s', '1 min 0 s', '1 min 23 s', '2 h 1 min']);
});
