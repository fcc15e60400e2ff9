// The report that the tests of its script open, and what they ask of it, whatever opens it.
import { renderReport } from '../../lib/report/report.js';
import { madeUpSamples, madeUpSteps } from './made-up.js';

const ATTACK = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';

/** A run with a hostile completion in it. */
export function reportPage(): string {
  const samples = madeUpSamples([1, 50, 100, 150, 200]);
  const hostile = { ...samples[1]!.samples[0]!, completion: ATTACK, reward: 0.5 };
  return renderReport({
    title: 'A run',
    steps: madeUpSteps(200),
    samples: samples.map((r, i) => (i === 1 ? { ...r, samples: [...r.samples, hostile] } : r)),
  });
}
