// What the examples of this folder share: a toy task, a small model's inputs, sampling, Adam. Nothing here knows who computes the model.
export const PROMPTS = 6;
export const LENGTH = 3;
export const VOCAB = 12;
export const FEATURES = PROMPTS * LENGTH;
export const HIDDEN = 32;
export const NUM_GENERATIONS = 16;
/** Rows of logits of a step: every token of every completion. */
export const ROWS = PROMPTS * NUM_GENERATIONS * LENGTH;

/** The prompt and position that a row of logits belongs to, as one number. */
export const placeOf = (row) => Math.floor(row / (NUM_GENERATIONS * LENGTH)) * LENGTH + (row % LENGTH);

/** Prompt p wants the tokens p, p + 5, p + 10 (modulo VOCAB). */
const wanted = (place) => (Math.floor(place / LENGTH) + 5 * (place % LENGTH)) % VOCAB;

/** (ROWS, FEATURES): what the model sees at each row. */
export function inputs() {
  const x = new Float32Array(ROWS * FEATURES);
  for (let row = 0; row < ROWS; ++row) x[row * FEATURES + placeOf(row)] = 1;
  return x;
}

/** Reproducible numbers in [0, 1) (mulberry32). */
export function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function weights(size, scale, random) {
  return Float32Array.from({ length: size }, () => scale * (2 * random() - 1));
}

/** A token of each row, drawn from softmax(logits). */
export function sampleTokens(logits, random) {
  return Int32Array.from({ length: ROWS }, (_, row) => {
    const z = logits.subarray(row * VOCAB, (row + 1) * VOCAB);
    const most = Math.max(...z);
    let at = random() * z.reduce((sum, v) => sum + Math.exp(v - most), 0);
    const token = z.findIndex((v) => (at -= Math.exp(v - most)) <= 0);
    return token < 0 ? VOCAB - 1 : token;
  });
}

/** One reward per completion: the share of its tokens that are the wanted ones. */
export function rewardsOf(tokens) {
  const rewards = new Float64Array(ROWS / LENGTH);
  tokens.forEach((token, row) => (rewards[Math.floor(row / LENGTH)] += token === wanted(placeOf(row)) ? 1 / LENGTH : 0));
  return rewards;
}

export const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/** Adam on one array of weights, in place. */
export function adam(w, learningRate) {
  const [m, v] = [new Float32Array(w.length), new Float32Array(w.length)];
  let t = 0;
  return (gradient) => {
    ++t;
    for (let i = 0; i < w.length; ++i) {
      m[i] = 0.9 * m[i] + 0.1 * gradient[i];
      v[i] = 0.999 * v[i] + 0.001 * gradient[i] ** 2;
      w[i] -= (learningRate * (m[i] / (1 - 0.9 ** t))) / (Math.sqrt(v[i] / (1 - 0.999 ** t)) + 1e-8);
    }
  };
}

/** Makes steps, prints how the reward goes, and fails when it does not come near 1. `step` returns the mean reward of its rollout. */
export async function train(name, steps, step) {
  const begin = performance.now();
  const history = [];
  for (let i = 0; i < steps; ++i) {
    history.push(await step());
    if (i % (steps / 5) === 0) console.log(`${name}: step ${i}, mean reward ${history[i].toFixed(3)}`);
  }
  const last = mean(history.slice(-5));
  console.log(
    `${name}: ${steps} steps in ${((performance.now() - begin) / 1000).toFixed(1)} s, mean reward ${history[0].toFixed(3)} -> ${last.toFixed(3)}`,
  );
  if (!(last > 0.9)) process.exitCode = 1;
}
