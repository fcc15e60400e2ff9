// The core addon's token-sized ops by the C ABI on the simulated GPU: every call goes to the core and to it. What they give must be close, and
// a call that one refuses the other refuses, too, naming the same element. Results returned are the GPU's.
import type { CoreAddon } from '../../lib/ops/addon.js';
import { callOf, compareErrors, expectedMetrics, type Args, type Array_ } from './backend.js';
import { onDevice } from './simulated.js';

const OPS = [
  'groupAdvantages',
  'multiRewardAdvantages',
  'processAdvantages',
  'passAtKAdvantages',
  'rewardsWithKl',
  'gae',
  'valueLoss',
  'preferenceLoss',
];
let calls = 0;
export const cudaCalls = (): number => calls;

function near(what: string, got: number, want: number): void {
  if (!(Math.abs(got - want) <= 1e-6 * Math.max(1, Math.abs(want)))) throw new Error(`${what}: ${got} on the GPU, ${want} on the CPU`);
}

function twice(name: string, core: (a: Args) => Args) {
  return (a: Args): unknown => {
    ++calls;
    const c = callOf(name, a);
    const outcome = onDevice(c.op.replace(/^fg_/, ''), c.args, c.options).run();
    let out: Args;
    try {
      out = core(a);
    } catch (error) {
      compareErrors(name, error as Error, outcome);
      throw error;
    }
    if (outcome.status !== 'FG_OK') throw new Error(`${name}: the core is content; the GPU says ${outcome.message}`);
    for (const [field, array] of Object.entries(c.outputs))
      (out[field] as Array_).forEach((want, i) => near(`${name}: ${field}[${i}]`, array[i]!, want));
    const metrics = Object.entries(c.metrics?.() ?? {});
    for (const [field, got] of metrics) near(`${name}: ${field}`, got as number, expectedMetrics(name, a, out)[field] as number);
    return { ...out, ...c.outputs };
  };
}

export function cudaBackend(core: CoreAddon): CoreAddon {
  const of = core as unknown as Record<string, (a: Args) => Args>;
  return { ...core, ...Object.fromEntries(OPS.map((name) => [name, twice(name, (a) => of[name]!(a))])) };
}
