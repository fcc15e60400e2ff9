import { expect, test } from '@jest/globals';
import { Progress, duration, short } from '../../lib/cli/progress.js';
import { sparkline } from '../../lib/cli/sparkline.js';

function bench(terminal: { isTTY?: boolean; columns?: number }, env: Record<string, string> = {}) {
  let text = '';
  let now = 0;
  const progress = new Progress(
    { stderr: { write: (t) => (text += t), ...terminal }, env, now: () => now },
    { label: 'train', total: () => 100 },
  );
  const take = () => {
    const t = text;
    text = '';
    return t;
  };
  return { progress, take, at: (ms: number) => (now = ms) };
}
// eslint-disable-next-line no-control-regex -- escape sequences are what is looked at
const visible = (text: string) => text.replace(/\x1b\[[?\dhlmK;]*/g, '').replace(/\r/g, '');

test('numbers for people', () => {
  expect([duration(75), duration(3700), duration(NaN)]).toEqual(['1:15', '1:01:40', '-:--']);
  expect([0.1234, 0.0123, 12.34, 1234.5, 1e-6, NaN, undefined].map(short)).toEqual(['0.12', '0.0123', '12.3', '1235', '1.0e-6', '–', '–']);
});

test('a terminal gets one redrawn line with rate and time left', () => {
  const b = bench({ isTTY: true, columns: 100 });
  b.at(60_000); // the model was loaded for a minute
  b.progress.update(1, []);
  b.at(69_000);
  expect(b.take()).toContain('\x1b[?25l'); // the cursor is hidden
  b.progress.update(10, ['reward 0.5', 'loss 0.1']);
  const line = b.take();
  expect(line).not.toContain('\n');
  expect(visible(line)).toMatch(/^train {2}█+.*░ {2}10\/100 {2}reward 0\.5 {2}loss 0\.1 {2}1\.00 s\/step {2}1:30 left$/);
  b.progress.end();
  expect(b.take()).toBe('\n\x1b[?25h');
  b.progress.end();
  expect(b.take()).toBe('');
});

test.each([10, 20, 30, 40, 60, 80, 200])('a terminal of %d columns is never overrun', (columns) => {
  const b = bench({ isTTY: true, columns });
  b.at(5000);
  b.progress.update(50, ['reward 0.512 ±0.23', 'loss 0.001', 'KL 0.01', 'length 120', '1234 tok/s']);
  const line = visible(b.take());
  expect(line.length).toBeLessThan(columns);
  expect(line).toContain('50/100');
  b.progress.end();
});

test('NO_COLOR leaves the bar without colour', () => {
  const b = bench({ isTTY: true, columns: 100 }, { NO_COLOR: '1' });
  b.progress.update(1, []);
  expect(b.take()).not.toContain('\x1b[36m');
  b.progress.end();
});

test('redraws are limited, the last one is always shown', () => {
  const b = bench({ isTTY: true, columns: 80 });
  b.progress.update(1, []);
  b.take();
  b.at(10);
  b.progress.update(2, []);
  expect(b.take()).toBe('');
  b.progress.update(100, []);
  expect(visible(b.take())).toContain('100/100');
  b.progress.end();
});

test.each([[{}], [{ isTTY: true, columns: 80, dumb: true }]])('elsewhere: plain lines at tenths or every ten seconds (%j)', (terminal) => {
  const b = bench(terminal, { TERM: 'dumb' });
  for (let i = 1; i <= 100; ++i) {
    b.at(i * 100);
    b.progress.update(i, ['reward 0.5']);
  }
  const lines = b.take().trim().split('\n');
  expect(lines).toHaveLength(11);
  expect(lines.at(-1)).toBe('train 100/100 reward 0.5 0.10 s/step 0:00 left');
});

test('a resumed run is timed by what this process did', () => {
  const b = bench({ isTTY: true, columns: 100 });
  b.at(2000);
  b.progress.update(91, []);
  expect(visible(b.take())).toContain('2.00 s/step  0:18 left');
  b.progress.end();
});

test('a message takes the place of the bar', () => {
  const b = bench({ isTTY: true, columns: 80 });
  b.progress.update(1, []);
  b.take();
  b.progress.log('saving');
  expect(b.take()).toBe('\r\x1b[Ksaving\n');
  b.progress.end();
});

test('the curve of all values so far, behind the first field, on a terminal only', () => {
  expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)).toBe('▁▂▃▄▅▆▇█');
  expect(sparkline([0, 0, 7, 7], 2)).toBe('▁█');
  expect(sparkline([5, 5, 5], 8)).toBe('▄▄▄');
  expect(sparkline([NaN, 1], 8)).toBe('');
  expect(sparkline([1, NaN, 2, Infinity], 8)).toBe('▁█');
  const b = bench({ isTTY: true, columns: 120 });
  for (let i = 1; i <= 100; ++i) {
    b.at(i * 1000);
    b.take();
    b.progress.update(i, ['reward 0.5', 'loss 0.1'], i);
  }
  expect(visible(b.take())).toMatch(/100\/100 {2}reward 0\.5 {2}▁[▁-█]{10}█ {2}loss 0\.1/);
  b.progress.end();
  const plain = bench({ isTTY: false });
  plain.progress.update(1, ['reward 0.5'], 1);
  plain.progress.update(100, ['reward 0.5'], 2);
  expect(plain.take()).not.toMatch(/[▁-█\x1b]/); // eslint-disable-line no-control-regex
});
