/** State and one step of AdamW in float64, written from the paper. */
export interface Adam {
  p: Float64Array;
  m: Float64Array;
  v: Float64Array;
}

export function oracleStep(
  s: Adam,
  gradient: Float32Array,
  o: { step: number; learningRate: number; beta1: number; beta2: number; epsilon: number; weightDecay: number; scale: number },
): void {
  for (let i = 0; i < s.p.length; ++i) {
    const g = gradient[i]! * o.scale;
    s.m[i] = o.beta1 * s.m[i]! + (1 - o.beta1) * g;
    s.v[i] = o.beta2 * s.v[i]! + (1 - o.beta2) * g * g;
    const mHat = s.m[i]! / (1 - o.beta1 ** o.step);
    const vHat = s.v[i]! / (1 - o.beta2 ** o.step);
    s.p[i] = s.p[i]! - o.learningRate * o.weightDecay * s.p[i]! - (o.learningRate * mHat) / (Math.sqrt(vHat) + o.epsilon);
  }
}

/** Start values and gradients that look like noise, the same for the same seed. */
export function learningCurve(n: number, seed: number): { start: Float32Array; gradientAt: (step: number) => Float32Array } {
  const noise = (k: number) =>
    Math.sin(12.9898 * k + 78.233 * seed) * 43758.5453 - Math.floor(Math.sin(12.9898 * k + 78.233 * seed) * 43758.5453) - 0.5;
  return {
    start: Float32Array.from({ length: n }, (_, i) => noise(i)),
    gradientAt: (step) => Float32Array.from({ length: n }, (_, i) => noise(i + n * step) + 0.2),
  };
}
