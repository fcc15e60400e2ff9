import { invalidValue } from '../errors.js';
import { core } from '../native.js';
import { choice, countOf, evenOffsets, groups, layout, monotone, number, typed, type Layout } from './check.js';
import { classOf, doubles, lengthOf, readOnce } from './inputs.js';
import type { GroupAdvantages, Groups, Rewards, SequenceLayout } from './types.js';

/** Rewards of the steps of completions, by a process reward model. S steps in total, in the order of their completions. */
export type StepRewards = SequenceLayout &
  Groups & {
    /** (S) one per step. */
    stepRewards: Rewards;
    /** Int32Array(S): the position (from 0 to N - 1) of each step's last token, ascending in its sequence and inside its rows. */
    stepEnds: Int32Array;
    /** Int32Array(B + 1): sequence i has the steps from stepOffsets[i] to stepOffsets[i + 1]; first 0, last S. */
    stepOffsets: Int32Array;
  };

/** Of processAdvantages. */
export interface ProcessAdvantagesConfig {
  /** What step rewards are divided by: the std of all steps of the group (default), or nothing. */
  scaleRewards?: 'group' | 'none';
  /** Delta degrees of freedom of the std. Default 1. */
  ddof?: 0 | 1;
  /** Added to the std. Default 1e-4. */
  eps?: number;
}

/** Sequences and rows, from offsets or completionLength; N is what the layout says. */
function stepLayout(batch: StepRewards): Layout {
  const { offsets, completionLength, stepOffsets } = batch;
  const sequences = countOf('stepOffsets', stepOffsets, 'an Int32Array of B+1 offsets');
  if (completionLength === undefined) {
    const rows = classOf(offsets) === 'Int32Array' ? (offsets[lengthOf(offsets) - 1] ?? 0) : 0;
    const l = layout({ offsets }, rows, 'offsets');
    typed<Int32Array>('stepOffsets', stepOffsets, 'Int32Array', l.sequences + 1);
    return l;
  }
  const length = number('completionLength', completionLength, { min: 0, integer: true });
  layout({ offsets, completionLength }, sequences * length, 'offsets');
  return { rows: sequences * length, sequences, offsets: evenOffsets(sequences, length) };
}

function checkSteps(stepEnds: Int32Array, stepOffsets: Int32Array, l: Layout): void {
  monotone('stepOffsets', stepOffsets, lengthOf(stepEnds), 'steps (stepEnds.length)');
  for (let s = 0; s < l.sequences; ++s) {
    const [first, last] = [l.offsets[s]!, l.offsets[s + 1]! - 1];
    for (let i = stepOffsets[s]!; i < stepOffsets[s + 1]!; ++i) {
      const end = stepEnds[i]!;
      if (end < first || end > last) throw invalidValue(`stepEnds[${i}]`, `a position of sequence ${s}, from ${first} to ${last},`, end);
      if (i > stepOffsets[s]! && end <= stepEnds[i - 1]!)
        throw invalidValue(`stepEnds[${i}]`, `more than ${stepEnds[i - 1]}, the end of the step before,`, end);
    }
  }
}

/**
 * Process supervision: rewards of steps are normalised, (r - mean) / (std + eps), over all steps of all completions of the group, and a
 * token's advantage is the sum of the normalised rewards of the steps that end at it or later. Float64 inside.
 *
 * @returns advantages (N), for policyLoss and grpoLoss as advantages per token; each group's mean, std and whether all its step rewards
 *   are equal (its advantages are then exactly 0; a group without steps counts as such). A token behind the last step, and every token of
 *   a sequence without steps: 0.
 * @throws RangeError ERR_NON_FINITE naming the step reward that is NaN or infinite
 * @see arXiv:2402.03300 section 4.1.3
 */
export function processAdvantages(batch: StepRewards, config: ProcessAdvantagesConfig = {}): GroupAdvantages {
  const names = ['stepRewards', 'stepEnds', 'stepOffsets', 'offsets', 'completionLength', 'numGenerations', 'groupOffsets'];
  batch = readOnce('processAdvantages batch', batch, names);
  config = readOnce('processAdvantages config', config, ['scaleRewards', 'ddof', 'eps']);
  const stepRewards = doubles('stepRewards', batch.stepRewards);
  const stepEnds = typed<Int32Array>('stepEnds', batch.stepEnds, 'Int32Array', stepRewards.length);
  const l = stepLayout(batch);
  checkSteps(stepEnds, batch.stepOffsets, l);
  const groupOffsets = groups(batch, l.sequences, 'sequences');
  return core().processAdvantages({
    ...l,
    stepRewards,
    steps: stepRewards.length,
    stepEnds,
    stepOffsets: batch.stepOffsets,
    groupOffsets,
    groups: groupOffsets.length - 1,
    scaleRewards: choice('scaleRewards', config.scaleRewards ?? 'group', ['group', 'none']) === 0 ? 0 : 2, // math/advantage.h, RewardScale
    ddof: number('ddof', config.ddof ?? 1, { min: 0, max: 1, integer: true }),
    eps: number('eps', config.eps ?? 1e-4, { min: 0 }),
  });
}
