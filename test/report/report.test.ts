import { describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { renderReport } from '../../lib/report/report.js';
import { writeRunReport } from '../../lib/report/run-folder.js';
import type { ReportStep } from '../../lib/report/types.js';
import { findings } from '../../lib/report/warnings.js';
import { tilesOf } from '../../lib/report/words.js';
import { madeUpSamples, madeUpSteps } from './made-up.js';

const titles = (html: string) => [...html.matchAll(/<figcaption><b>([^<]*)/g)].map((m) => m[1]);
/** Everything that is drawn must be a number: NaN in a path is an invisible curve. */
const drawn = (html: string) =>
  [...html.matchAll(/\sd="([^"]*)"/g)].map((m) => m[1]!).join(' ') +
  [...html.matchAll(/\s[xy][12]?="([^"]*)"/g)].map((m) => m[1]!).join(' ');

test('a whole run: all curves, tiles, samples, settings', () => {
  const html = renderReport({
    title: 'My run',
    run: { learningRate: 0.1, versions: { node: 'v20' } },
    steps: madeUpSteps(200),
    samples: madeUpSamples([1, 100, 200]),
  });
  for (const title of [
    'Reward',
    'Reward by function',
    'Rewards of single completions',
    'Loss',
    'KL to the reference',
    'Entropy',
    'Completion length',
    'Clipped tokens',
    'Learning rate',
    'Gradient norm',
    'Time by phase',
    'Speed',
  ])
    expect(titles(html)).toContain(title);
  expect(html).toContain('Mean reward');
  expect(html).toMatch(/0\.2\d → 0\.8\d/);
  expect(html).toContain('One prompt through training');
  expect(html).toContain('versions.node');
  expect(html).toContain('prefers-color-scheme:dark');
  expect(drawn(html)).not.toMatch(/NaN|Infinity|undefined/);
});

test('evaluations and a critic have charts where there are some', () => {
  const evaluation = {
    evalReward: 0.4,
    evalRewardGreedy: 0.5,
    evalPassGreedy: 0.4,
    evalPassAt1: 0.3,
    evalPassAtK: 0.8,
    evalK: 8,
    evalSeconds: 2,
  };
  const critic = { valueLoss: 0.1, valueClipRatio: 0, explainedVariance: 0.5, meanValue: 0.2, meanReturn: 0.3 };
  const steps = madeUpSteps(30).map((s, i) => ({ ...s, ...critic, ...(i % 10 === 9 ? evaluation : {}) }));
  const html = renderReport({ title: 'x', steps });
  for (const title of ['Reward on held-out prompts', 'Held-out prompts passed', 'Value loss', 'Explained variance'])
    expect(titles(html)).toContain(title);
  expect(html).toContain('pass@8');
  expect(drawn(html)).not.toMatch(/NaN|Infinity|undefined/);
  expect(titles(renderReport({ title: 'x', steps: madeUpSteps(30) })).join()).not.toMatch(/held-out|Value/i);
});

test('the file needs nothing from outside', () => {
  const html = renderReport({ title: 'x', steps: madeUpSteps(20), samples: madeUpSamples([1]) });
  expect(html).toContain("default-src 'none'");
  expect(html).not.toMatch(/https?:|<link|<img|src=|@import|url\(/);
});

test.each([0, 1, 2])('%d steps', (n) => {
  const html = renderReport({ title: 'x', steps: madeUpSteps(n), samples: madeUpSamples(n ? [1] : []) });
  expect(titles(html).length).toBe(n ? 15 : 0);
  expect(html.includes('No step was finished')).toBe(n === 0);
  expect(drawn(html)).not.toMatch(/NaN|Infinity|undefined/);
});

test('missing and non-finite values leave gaps, never broken paths', () => {
  const steps = madeUpSteps(50).map((s, i): ReportStep =>
    i % 7 === 0 ? { step: s.step } : i % 5 === 0 ? { ...s, loss: NaN, reward: Infinity, kl: null, seconds: null } : s,
  );
  const html = renderReport({ title: 'x', steps });
  expect(titles(html)).toContain('Reward');
  expect(drawn(html)).not.toMatch(/NaN|Infinity|undefined/);
  const none = renderReport({ title: 'x', steps: [{ step: 1 }, { step: 2 }] });
  expect(titles(none)).toEqual([]);
});

test('a run of supervised fine-tuning shows what it has', () => {
  const steps = madeUpSteps(30).map(({ step, epoch, loss, learningRate, gradNorm, tokens, tokensPerSecond }): ReportStep => ({
    step,
    epoch,
    loss,
    learningRate,
    gradNorm,
    tokens,
    tokensPerSecond,
  }));
  const html = renderReport({ title: 'x', steps });
  expect(titles(html)).toEqual(['Loss', 'Learning rate', 'Gradient norm', 'Speed']);
  expect(html).toContain('lower is better');
});

test('10,000 steps and 100 kB completions stay below 1 MB', () => {
  const samples = madeUpSamples(Array.from({ length: 60 }, (_, i) => i * 160 + 1)).map((r) => ({
    ...r,
    samples: r.samples.map((s) => ({ ...s, completion: s.completion.padEnd(100_000, 'x<') })),
  }));
  const html = renderReport({ title: 'x', steps: madeUpSteps(10_000), samples });
  expect(Buffer.byteLength(html)).toBeLessThan(1e6);
  expect(html).toContain('98,800 more characters');
});

describe('completions are hostile', () => {
  const attack = `</script><img src=x onerror=alert(1)>"'&\u0000\u202e\ud800`;
  const sample = { prompt: attack, completion: attack, reward: 1, advantage: 1, finishReason: 'stop' as const };
  const html = renderReport({
    title: attack,
    run: { [attack]: attack, model: attack },
    steps: [{ ...madeUpSteps(1)[0]!, rewards: { [attack]: { mean: 1, std: 0 }, other: { mean: 0, std: 0 } } }],
    samples: [1, 2].map((step) => ({ step, samples: [sample, sample], groups: [{ prompt: attack, rewards: [0, 1, null] }] })),
    warnings: [attack],
    beforeAfter: {
      label: attack,
      beforeScore: 0,
      afterScore: 1,
      rows: [{ prompt: attack, expected: attack, before: attack, after: attack }],
    },
  });
  test('nothing of them becomes markup', () => {
    expect(html).not.toContain('<img');
    expect(html.match(/<script/g)).toHaveLength(1);
    expect(html.match(/<\/script/g)).toHaveLength(1);
    expect(html).toContain('&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;');
    // eslint-disable-next-line no-control-regex -- they must be gone
    expect(html).not.toMatch(/[\u0000\u202e]|\p{Surrogate}/u);
  });
  test('attributes that hold data can be read back', () => {
    const data = /data-chart="([^"]*)"/g;
    const plain = (s: string) =>
      s.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&amp;', '&');
    for (const [, text] of html.matchAll(data)) expect(() => void JSON.parse(plain(text!))).not.toThrow();
  });
});

test('before and after', () => {
  const html = renderReport({
    title: 'x',
    steps: [],
    beforeAfter: {
      label: 'held-out accuracy',
      beforeScore: 0.5,
      afterScore: 0.95,
      rows: [{ prompt: '1+1=', expected: '2', before: '3', after: '2', beforeCorrect: false, afterCorrect: true }],
    },
  });
  expect(html).toContain('50 % → 95 %');
  expect(html).toMatch(/✗<\/b> 3.*✓<\/b> 2/);
});

test('findings, each with a run that earns it and none for a healthy one', () => {
  const run = (change: Partial<ReportStep>) => findings(madeUpSteps(50).map((s) => ({ ...s, ...change })));
  expect(findings(madeUpSteps(50))).toEqual([]);
  expect(run({ fracRewardZeroStd: 1 })[0]).toMatch(/nothing to learn/);
  expect(run({ truncated: 0.9 })[0]).toMatch(/90 % of the completions were cut/);
  expect(run({ kl: 5 })[0]).toMatch(/far from the reference/);
  expect(run({ clipRatio: { low: 0.3, high: 0.3, region: 0.6 } })[0]).toMatch(/clip stops/);
  expect(run({ loss: null })[0]).toMatch(/not a number/);
  expect(findings(madeUpSteps(50).map((s, i) => ({ ...s, reward: -i })))[0]).toMatch(/reward fell/);
  expect(findings(madeUpSteps(50).map((s, i) => ({ ...s, entropy: i < 10 ? 1 : 0.001 })))[0]).toMatch(/deterministic/);
  expect(findings(madeUpSteps(50).map((s, i) => ({ ...s, fracRewardZeroStd: i > 40 ? 0.95 : 0.2 })))[0]).toMatch(
    /equal rewards: there is little left to learn/,
  );
});

test('tiles tell a rise from a fall', () => {
  const reward = (f: (i: number) => number) =>
    tilesOf(madeUpSteps(40).map((s, i) => ({ ...s, reward: f(i) }))).find((t) => t.label === 'Mean reward');
  expect(reward((i) => i)).toMatchObject({ detail: 'it rose', mood: 'good' });
  expect(reward((i) => -i)).toMatchObject({ detail: 'it fell', mood: 'bad' });
  expect(reward(() => 1)).toMatchObject({ detail: 'hardly a change' });
});

test('a run folder: lines cut by a crash are counted, the rest is shown, the file replaced whole', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fused-grpo-'));
  const lines = madeUpSteps(5).map((s) => JSON.stringify(s));
  writeFileSync(join(folder, 'metrics.jsonl'), lines.join('\n') + '\n\n{"step": 6, "rew');
  writeFileSync(
    join(folder, 'samples.jsonl'),
    JSON.stringify(madeUpSamples([5])[0]) + '\n{"step":6,"samples":null}\n{"step":7,"samples":[{"completion":"only this"}]}\n',
  );
  writeFileSync(join(folder, 'config.json'), '{"model":"my/model"}');
  const file = writeRunReport(folder, { title: 'T', warnings: ['W'] });
  const html = readFileSync(file, 'utf8');
  expect(file).toBe(join(folder, 'report.html'));
  expect(html).toContain('my/model');
  expect(html).toContain('⚠ W');
  expect(html).toContain('1 line(s) of metrics.jsonl');
  expect(html).toContain('only this');
  expect(existsSync(file + '.part')).toBe(false);
});

test('samples with long lines in many pieces are read whole', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fused-grpo-'));
  const completion = 'é'.repeat(1_500_000) + 'END';
  writeFileSync(join(folder, 'metrics.jsonl'), JSON.stringify(madeUpSteps(1)[0]) + '\n');
  writeFileSync(
    join(folder, 'samples.jsonl'),
    JSON.stringify({ step: 1, samples: [{ prompt: 'p', completion, reward: 1, advantage: 0, finishReason: 'stop' }] }),
  );
  const html = readFileSync(writeRunReport(folder), 'utf8');
  expect(html).not.toContain('could not be read');
  expect(html).not.toContain('\ufffd');
  expect(html).toContain('more characters');
});

test("a reward model's run shows its pairs; a GRPO run has no such chart", () => {
  const steps = [1, 2, 3].map((step) => ({
    step,
    loss: 0.7 / step,
    accuracy: 0.5 + step / 10,
    margin: step,
    ...(step === 2 ? { evalAccuracy: 0.9 } : {}),
  }));
  const html = renderReport({ title: 'x', steps });
  for (const words of ['Pairs ranked rightly', 'held-out pairs', 'Nats per pair']) expect(html).toContain(words);
  const grpo = renderReport({ title: 'x', steps: madeUpSteps(5) });
  expect(grpo).not.toContain('Pairs ranked rightly');
});
