// AdamW against its formula in float64 (arXiv 1711.05101, bias-corrected as in torch.optim.AdamW).
import { expect, test } from '@jest/globals';
import { engine } from '../../lib/native.js';
import { learningCurve, oracleStep, type Adam } from '../support/adamw.js';

const options = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 };
const bf16 = (x: number): number => {
  const bits = new Uint32Array(new Float32Array([x]).buffer)[0]!;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >>> 16;
};

test.each([1, 7, 16, 1000, 32768, 70001])('%d elements, 20 steps', (n) => {
  const { start, gradientAt } = learningCurve(n, 11);
  const state: Adam = { p: Float64Array.from(start), m: new Float64Array(n), v: new Float64Array(n) };
  const parameter = Float32Array.from(start);
  const moment1 = new Float32Array(n);
  const moment2 = new Float32Array(n);
  for (let step = 1; step <= 20; ++step) {
    const gradient = gradientAt(step);
    const scale = step % 3 === 0 ? 0.25 : 1;
    const norm = engine().adamwStep({ parameter, gradient, moment1, moment2, step, learningRate: 1e-3, gradientScale: scale, ...options });
    const exact = Math.sqrt(gradient.reduce((s, g) => s + g * g, 0));
    expect(Math.abs(norm - exact)).toBeLessThanOrEqual(1e-12 * exact);
    oracleStep(state, gradient, { step, learningRate: 1e-3, scale, ...options });
  }
  const worst = state.p.reduce((most, p, i) => Math.max(most, Math.abs(p - parameter[i]!) / Math.max(1e-2, Math.abs(p))), 0);
  expect(worst).toBeLessThan(2e-5);
});

test('bfloat16 weights at a learning rate below their spacing still follow float64: the master remembers', () => {
  const n = 4096;
  const { start, gradientAt } = learningCurve(n, 3);
  const state: Adam = { p: Float64Array.from(start), m: new Float64Array(n), v: new Float64Array(n) };
  const master = Float32Array.from(start);
  const parameter = Uint16Array.from(master, bf16);
  const [moment1, moment2] = [new Float32Array(n), new Float32Array(n)];
  const smooth = { ...options, weightDecay: 0 };
  for (let step = 1; step <= 100; ++step) {
    const gradient = gradientAt(1); // always the same: every weight moves by about 1e-6 a step
    engine().adamwStep({ parameter, master, gradient, moment1, moment2, step, learningRate: 1e-6, gradientScale: 1, ...smooth });
    oracleStep(state, gradient, { step, learningRate: 1e-6, scale: 1, ...smooth });
  }
  let [dot, a, b] = [0, 0, 0];
  for (let i = 0; i < n; ++i) {
    const [want, got] = [state.p[i]! - start[i]!, master[i]! - start[i]!];
    dot += want * got;
    a += want * want;
    b += got * got;
  }
  expect(dot / Math.sqrt(a * b)).toBeGreaterThan(0.999);
  expect(Array.from(parameter)).toEqual(Array.from(master, bf16));
});
