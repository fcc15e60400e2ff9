// docs/reward-model.md: its output is the example's, its claims about invariance hold, and what it names exists.
import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as api from '../../lib/index.js';
import { Random } from '../support/random.js';

const root = join(__dirname, '..', '..');
const text = readFileSync(join(root, 'docs', 'reward-model.md'), 'utf8');

describe('docs/reward-model.md', () => {
  test('shows what the example prints', () => {
    const run = spawnSync(process.execPath, [join(root, 'examples', 'reward-scale.mjs')], { encoding: 'utf8' });
    expect(run.stderr).toBe('');
    expect(text).toContain('```text\n' + run.stdout + '```');
  });

  test('names the options that RewardConfig has beside the common ones, and their defaults', () => {
    const common = new Set(Object.keys(api.sftConfigOptions));
    for (const [name, spec] of Object.entries(api.rewardConfigOptions))
      if (!common.has(name)) expect(text).toContain(`\`${name}\` (${'default' in spec ? spec.default : ''}`);
    const options = [...text.matchAll(/config: \{([^}]*)\}/g)].flatMap(([, inside]) =>
      [...inside!.matchAll(/(\w+):/g)].map(([, name]) => name!),
    );
    expect(options.length).toBeGreaterThan(2);
    for (const name of options) expect(Object.keys(api.rewardConfigOptions)).toContain(name);
  });

  test('a shift that is exact changes no bit of an advantage; a factor changes it as the formula says', () => {
    const random = new Random(7);
    for (let k = 0; k < 50; ++k) {
      const n = 2 + random.below(14);
      const scores = Float64Array.from({ length: n }, () => random.below(1024) / 256);
      const of = (r: Float64Array, eps: number) => api.groupAdvantages(r, { numGenerations: n, eps });
      const { advantages, std } = of(scores, 1e-4);
      expect(
        of(
          scores.map((s) => s + 64),
          1e-4,
        ).advantages,
      ).toEqual(advantages);
      const c = 2 ** (random.below(9) - 4);
      const scaled = of(
        scores.map((s) => c * s),
        1e-4,
      ).advantages;
      const factor = (std[0]! + 1e-4) / (std[0]! + 1e-4 / c);
      advantages.forEach((a, i) => expect(Math.abs(scaled[i]! - a * factor)).toBeLessThan(3e-7 * Math.max(1, Math.abs(a))));
      expect(
        of(
          scores.map((s) => c * s),
          0,
        ).advantages,
      ).toEqual(of(scores, 0).advantages);
    }
  });

  test('PPO: a shift adds b lambda^(T-1-t); a critic that knows it gives the old advantages; c multiplies', () => {
    const [values, T, b, lambda] = [Float32Array.of(0.5, -1, 2, 0.25), 4, 8, 0.5];
    const ppo = (score: number, critic: Float32Array) =>
      api.gae({ rewards: Float32Array.of(0, 0, 0, score), values: critic, completionLength: T }, { lambda }).advantages;
    const plain = ppo(1, values);
    expect([...ppo(1 + b, values)]).toEqual([...plain].map((a, t) => a + b * lambda ** (T - 1 - t)));
    expect(
      ppo(
        1 + b,
        values.map((v) => v + b),
      ),
    ).toEqual(plain);
    expect(
      ppo(
        4,
        values.map((v) => 4 * v),
      ),
    ).toEqual(plain.map((a) => 4 * a));
  });
});
