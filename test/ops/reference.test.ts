// The unfused libtorch twin: same formula, autograd's derivative, the same numbers as the fused kernel.
import { expect, test } from '@jest/globals';
import { grpoLoss } from '../../lib/index.js';
import { core, engine } from '../../lib/native.js';
import { grpoArguments } from '../../lib/ops/grpo_loss.js';
import { grpoOracle } from '../support/oracle.js';
import { makeCase } from '../support/cases.js';
import { fromBits, ulp } from '../support/half.js';

test('150 random cases, fused against unfused', () => {
  let compared = 0;
  for (let seed = 1000; compared < 150; ++seed) {
    const c = makeCase(seed);
    if (c.batch.sequenceStride || c.batch.targets.length === 0) continue;
    // libtorch divides by the temperature before it subtracts the maximum: logits far from 0 lose digits there
    if (c.oracleBatch.rows.some((row, t) => c.oracleBatch.selected[t] && row.some((v) => Math.abs(v) > 90 && v !== -Infinity))) continue;
    const truth = grpoOracle(c.oracleBatch, c.oracleConfig);
    if (truth.margin < 1e-4) continue; // a decision that float32 log-probs may take either way
    compared += 1;
    const fused = grpoLoss(c.batch, { ...c.config, inPlace: false });
    const { native } = grpoArguments(c.batch, { ...c.config, inPlace: false });
    const unfused = engine().unfusedGrpoLoss(native);
    const where = `seed ${seed}`;
    const largest = Array.from(fused.gradLogits, (v) => Math.abs(fromBits(c.dtype, v))).reduce((a, b) => Math.max(a, b), 0);
    // libtorch rounds a log-prob to fp32 before the ratio is formed: a looser bound than the oracle's
    if (!(Math.abs(unfused.metrics.loss - fused.loss) <= 5e-5 * Math.max(1, Math.abs(fused.loss))))
      throw new Error(`${where}: loss ${fused.loss} and ${unfused.metrics.loss}`);
    fused.logps.forEach((v, t) => {
      if (!(Math.abs(v - unfused.logps[t]!) <= 2e-5 * Math.max(1, Math.abs(v))) && v !== unfused.logps[t])
        throw new Error(`${where}: logps[${t}] ${v} and ${unfused.logps[t]}`);
    });
    // what the terms of the derivative amount to before they cancel (see the oracle)
    const terms = Math.max(...truth.scale) / c.oracleConfig.temperature;
    fused.gradLogits.forEach((v, i) => {
      const [got, want] = [fromBits(c.dtype, v), fromBits(c.dtype, native.gradLogits[i]!)];
      const tolerance = 5e-5 * largest + 2e-5 * terms + (c.dtype === 'float32' ? 0 : 2 * ulp(c.dtype, want));
      if (!(Math.abs(got - want) <= tolerance)) throw new Error(`${where}: gradient ${i}: ${got} and ${want}, largest ${largest}`);
    });
    expect([where, unfused.metrics.tokens]).toEqual([where, fused.metrics.tokens]);
    expect([where, unfused.metrics.clippedLow + unfused.metrics.clippedHigh]).toEqual([
      where,
      Math.round(fused.metrics.clipRatio.region * fused.metrics.tokens),
    ]);
  }
  expect(core().version).toBe('0.1.0');
});
