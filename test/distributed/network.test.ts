// Ranks on machines of their own, as far as one machine can show it: a network namespace each, joined by a cable that can be pulled.
// Making namespaces takes root and iproute2.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { runApart, type Job } from './support.js';

const names = [0, 1].map((i) => `fg${process.pid % 100000}${'ab'[i]}`);
const ip = (...args: string[]) => spawnSync('ip', args, { encoding: 'utf8' });
const possible = process.getuid?.() === 0 && ip('netns', 'add', names[0]!).status === 0;
const places = names.map((name) => ({ within: ['ip', 'netns', 'exec', name] }));
const cable = (i: number) => `fgv${process.pid % 100000}${'ab'[i]}`;

beforeAll(() => {
  if (!possible) return console.warn('Skipped: network namespaces need root and iproute2');
  ip('netns', 'add', names[1]!);
  ip('link', 'add', cable(0), 'type', 'veth', 'peer', 'name', cable(1));
  names.forEach((name, i) => {
    ip('link', 'set', cable(i), 'netns', name);
    ip('-n', name, 'addr', 'add', `10.77.0.${i + 1}/24`, 'dev', cable(i));
    ip('-n', name, 'link', 'set', cable(i), 'up');
    ip('-n', name, 'link', 'set', 'lo', 'up');
  });
});
afterAll(() => names.forEach((name) => void ip('netns', 'delete', name)));

(possible ? describe : describe.skip)('two machines', () => {
  const config = { perDeviceTrainBatchSize: 8, numGenerations: 4, maxSteps: 8, maxCompletionLength: 8, ddpTimeout: 3 };

  test('they find each other by the address of the first, whatever their names say', async () => {
    const ranks = await runApart({ config }, places, '10.77.0.1', 60_000);
    for (const rank of ranks) expect([rank.error, rank.steps.length]).toEqual([undefined, 8]);
  }, 90_000);

  test('the cable is pulled: both end, each saying what it misses', async () => {
    const job: Job = { reward: 'slow', config };
    const running = runApart(job, places, '10.77.0.1', 60_000);
    await new Promise((resolve) => setTimeout(resolve, 6000)); // somewhere in the first steps: each takes over two seconds
    ip('-n', names[1]!, 'link', 'set', cable(1), 'down');
    const [first, second] = await running;
    expect([first!.code, second!.code]).toEqual(['ERR_RANK_LOST', 'ERR_RANK_LOST']);
    expect(first!.error).toMatch(/^Rank 1 has given no sign of life for 3 s/);
    expect(second!.error).toMatch(
      /^The meeting point at 10\.77\.0\.1:29500 does not answer for 3 s: rank 0's machine, or the network to it, is gone/,
    );
    for (const rank of [first, second]) expect(rank!.seconds).toBeLessThan(20);
  }, 90_000);
});
