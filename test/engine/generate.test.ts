// Sampling: the distribution, truncation, penalties, seeds, batch layout, ends.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { goldenModels, largest, lists, loadGolden } from './support.js';

let policy: Policy;
beforeAll(async () => (policy = await loadGolden('llama')));
afterAll(() => policy.dispose());
const prompt = Int32Array.of(5, 17, 40, 9);
const one = { maxNewTokens: 1, ignoreEos: true };

async function nextProbabilities(temperature: number): Promise<number[]> {
  const z = Array.from((await policy.native.logits(lists(prompt)).promise).slice(-policy.vocabSize), (l) => l / temperature);
  const max = Math.max(...z);
  const sum = z.reduce((s, l) => s + Math.exp(l - max), 0);
  return z.map((l) => Math.exp(l - max) / sum);
}

async function draws(n: number, options: object): Promise<Map<number, number>> {
  const { completions } = await policy.generate([prompt], { ...one, numGenerations: n, seed: 11, ...options });
  const counts = new Map<number, number>();
  for (const c of completions) counts.set(c.tokens[0]!, (counts.get(c.tokens[0]!) ?? 0) + 1);
  return counts;
}

/** Chi-square statistic over cells expected at least 5 times (the rest is one cell), and its degrees of freedom. */
function chiSquare(counts: Map<number, number>, p: number[], n: number): { statistic: number; freedom: number } {
  let statistic = 0;
  let freedom = -1;
  let [restSeen, restWanted] = [0, 0];
  p.forEach((q, id) => {
    const [seen, wanted] = [counts.get(id) ?? 0, q * n];
    if (wanted < 5) {
      restSeen += seen;
      restWanted += wanted;
      return;
    }
    statistic += (seen - wanted) ** 2 / wanted;
    freedom++;
  });
  if (restWanted >= 5) {
    statistic += (restSeen - restWanted) ** 2 / restWanted;
    freedom++;
  }
  return { statistic, freedom };
}

/** Wilson-Hilferty: chi-square as a standard normal deviate. 3.7 is p = 1e-4. */
const deviate = (statistic: number, freedom: number) =>
  ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom));

describe('distribution', () => {
  test.each([0.5, 1, 2])('20000 draws at temperature %p follow the softmax', async (temperature) => {
    const p = await nextProbabilities(temperature);
    const { statistic, freedom } = chiSquare(await draws(20000, { temperature }), p, 20000);
    expect(freedom).toBeGreaterThan(1);
    expect(deviate(statistic, freedom)).toBeLessThan(3.7);
  });

  const truncations: [string, object, (p: number[]) => number[]][] = [
    ['topK 5', { topK: 5 }, (p) => keep(p, (sorted, i) => i < 5)],
    ['topP 0.7', { topP: 0.7 }, (p) => keep(p, (sorted, i) => sorted.slice(0, i).reduce((a, b) => a + b, 0) < 0.7)],
    ['minP 0.1', { minP: 0.1 }, (p) => keep(p, (sorted, i) => sorted[i]! >= 0.1 * sorted[0]!)],
  ];
  function keep(p: number[], ok: (sorted: number[], i: number) => boolean): number[] {
    const order = p.map((_, i) => i).sort((a, b) => p[b]! - p[a]!);
    const sorted = order.map((i) => p[i]!);
    const kept = new Set(order.filter((_, i) => ok(sorted, i)));
    const mass = p.reduce((s, q, i) => s + (kept.has(i) ? q : 0), 0);
    return p.map((q, i) => (kept.has(i) ? q / mass : 0));
  }
  test.each(truncations)('%s draws from exactly the kept tokens', async (_, options, cut) => {
    const p = cut(await nextProbabilities(1));
    const counts = await draws(20000, options);
    for (const id of counts.keys()) expect(p[id]).toBeGreaterThan(0);
    const { statistic, freedom } = chiSquare(counts, p, 20000);
    if (freedom > 0) expect(deviate(statistic, freedom)).toBeLessThan(3.7);
  });

  test('log-probs do not change with truncation or penalty', async () => {
    const p = await nextProbabilities(1.3);
    for (const options of [{ topK: 3 }, { topP: 0.5 }, { minP: 0.2 }, { repetitionPenalty: 1.5 }, {}]) {
      const { completions } = await policy.generate([prompt], { ...one, numGenerations: 50, seed: 5, temperature: 1.3, ...options });
      for (const c of completions) expect(Math.abs(c.logps[0]! - Math.log(p[c.tokens[0]!]!))).toBeLessThan(5e-5);
    }
  });

  test('topK 1 is greedy; a penalty makes repeats rarer', async () => {
    const greedy = await policy.generate([prompt], { temperature: 0, maxNewTokens: 30, ignoreEos: true });
    const top1 = await policy.generate([prompt], { topK: 1, maxNewTokens: 30, ignoreEos: true });
    expect(top1.completions[0]!.tokens).toEqual(greedy.completions[0]!.tokens);
    const penalised = await policy.generate([prompt], { temperature: 0, repetitionPenalty: 1e6, maxNewTokens: 30, ignoreEos: true });
    expect(new Set([...prompt, ...penalised.completions[0]!.tokens]).size).toBe(34);
  });
});

describe('reproducibility', () => {
  test('same seed, same tokens; another seed or step, others', async () => {
    const run = async (o: object) =>
      (await policy.generate([prompt], { numGenerations: 4, maxNewTokens: 20, ...o })).completions.map((c) => [...c.tokens]);
    const first = await run({ seed: 1 });
    expect(await run({ seed: 1 })).toEqual(first);
    expect(await run({ seed: 2 })).not.toEqual(first);
    expect(await run({ seed: 1, step: 1 })).not.toEqual(first);
    expect(await run({})).not.toEqual(await run({}));
    expect(await run({ seed: Number.MAX_SAFE_INTEGER })).not.toEqual(first);
  });

  test('what is drawn does not depend on the rest of the batch', async () => {
    const prompts = [prompt, Int32Array.of(3), Int32Array.from({ length: 20 }, (_, i) => 3 + i)];
    const options = { maxNewTokens: 30, seed: 42 };
    const few = await policy.generate(prompts, { ...options, numGenerations: 2 });
    const many = await policy.generate(prompts, { ...options, numGenerations: 40 });
    for (const c of few.completions.keys()) {
      const other = many.completions[few.completions[c]!.promptIndex * 40 + (c % 2)]!;
      expect(few.completions[c]!.tokens).toEqual(other.tokens);
      expect(largest(few.completions[c]!.logps.map((l, t) => Math.abs(l - other.logps[t]!)))).toBeLessThan(1e-5);
    }
  });

  test('a pinned draw: the random numbers are part of the format', async () => {
    const { completions } = await policy.generate([prompt], { numGenerations: 2, maxNewTokens: 6, seed: 123, step: 4, ignoreEos: true });
    expect(completions.map((c) => [...c.tokens])).toMatchSnapshot();
  });
});

describe('ends', () => {
  test('an end token ends a completion and is part of it; ignoreEos goes on', async () => {
    const p = await nextProbabilities(1);
    const likely = p.indexOf(Math.max(...p));
    const ended = await Policy.load(join(goldenModels, 'llama'));
    (ended.config as { eosTokenIds: number[] }).eosTokenIds = [0, likely];
    const stopped = (await ended.generate([prompt], { temperature: 0, maxNewTokens: 5 })).completions[0]!;
    expect([[...stopped.tokens], stopped.finishReason]).toEqual([[likely], 'stop']);
    const on = (await ended.generate([prompt], { temperature: 0, maxNewTokens: 5, ignoreEos: true })).completions[0]!;
    expect([on.tokens.length, on.finishReason]).toEqual([5, 'length']);
    ended.dispose();
  });

  test('stop strings: matched across tokens, cut from the text, kept in the tokens', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'fg-stop-'));
    cpSync(join(goldenModels, 'llama'), dir, { recursive: true });
    cpSync(join(__dirname, '../golden/tokenizers/gpt2-like'), dir, { recursive: true });
    const texts = await Policy.load(dir);
    const options = { maxNewTokens: 40, seed: 8, ignoreEos: true };
    const whole = (await texts.generate([prompt], options)).completions[0]!;
    for (const [from, length] of [
      [3, 2],
      [10, 4],
      [0, 1],
    ] as const) {
      const stop = whole.text.slice(from, from + length);
      const cut = (await texts.generate([prompt], { ...options, stop: ['never seen here', stop] })).completions[0]!;
      expect(cut.finishReason).toBe('stop');
      expect(cut.text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
      expect([...cut.tokens]).toEqual([...whole.tokens.slice(0, cut.tokens.length)]);
      expect(texts.decode(cut.tokens)).toContain(stop);
      expect(texts.decode(cut.tokens.subarray(0, -1))).not.toContain(stop);
    }
    await expect(policy.generate([prompt], { stop: 'x' })).rejects.toMatchObject({ code: 'ERR_TOKENIZER' });
    texts.dispose();
    rmSync(dir, { recursive: true });
  });

  test('the context: what must fit, and what is taken when nothing is said', async () => {
    const long = Int32Array.from({ length: 60 }, (_, i) => 3 + i);
    await expect(policy.generate([prompt, long], { maxNewTokens: 5 })).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    await expect(policy.generate([prompt, long], { maxNewTokens: 5 })).rejects.toThrow(
      /prompts\[1\] has 60 tokens and with maxNewTokens 5/,
    );
    const { completions } = await policy.generate([prompt, long], { ignoreEos: true });
    expect(completions.map((c) => c.tokens.length)).toEqual([4, 4]);
    await expect(policy.generate([new Int32Array(64).fill(3)])).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
  });
});

describe('arguments', () => {
  test.each([
    [{ temperatur: 1 }, /did you mean 'temperature'/],
    [{ temperature: -1 }, /temperature but received -1/],
    [{ temperature: NaN }, /temperature/],
    [{ topP: 0 }, /topP/],
    [{ topK: 1.5 }, /topK/],
    [{ minP: 2 }, /minP/],
    [{ seed: -1 }, /seed/],
    [{ numGenerations: 0 }, /numGenerations/],
    [{ maxNewTokens: '5' }, /maxNewTokens but received "5"/],
    [{ stop: [''] }, /stop/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty/],
    [{ ignoreEos: 1 }, /ignoreEos/],
    [{ signal: 3 }, /AbortSignal/],
  ] as [object, RegExp][])('%p', async (options, message) => {
    await expect(policy.generate([prompt], options)).rejects.toThrow(message);
  });

  test('prompts', async () => {
    await expect(policy.generate('text' as never)).rejects.toThrow(/prompts/);
    await expect(policy.generate(['text'])).rejects.toMatchObject({ code: 'ERR_TOKENIZER' });
    await expect(policy.generate([new Int32Array(0)])).rejects.toThrow(/at least one token/);
    await expect(policy.generate([Int32Array.of(97)])).rejects.toThrow(/token ids from 0 to 96 in prompts but received 97/);
    await expect(policy.generate([Int32Array.of(-1)])).rejects.toThrow(RangeError);
    expect(await policy.generate([])).toEqual({ completions: [] });
    await expect(policy.score([prompt], [prompt, prompt])).rejects.toThrow(/as many completions as prompts/);
    const { logps } = await policy.score([prompt], [new Int32Array(0)]);
    expect(logps[0]!.length).toBe(0);
  });
});
