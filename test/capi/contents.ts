// Contents of arrays that the C ABI refuses, and what it says: on the CPU and on a GPU.

type Values = Float32Array | Float64Array | Int32Array;
/** op, struct, field, its values, part of the message, index, sequence, token. */
export type BadContents = [string, string, string, Values, string, number, number, number];

const of = (op: string, struct: string, field: string, ...each: number[][]) =>
  each.map((values): [string, string, string, Int32Array] => [op, struct, field, Int32Array.from(values)]);
const GROUPS = [
  [1, 3],
  [0, 2],
  [0, 4],
  [0, -3],
];
const ROWS = [
  [1, 2, 2, 6],
  [0, 3, 2, 6],
  [0, 2, 2, 7],
  [0, 2, 2, 1],
];
const STEPS = [
  [1, 1, 1, 4],
  [0, 3, 2, 4],
  [0, 1, 1, 5],
  [0, 1, 1, 3],
];
/** Offsets that do not begin with 0, decrease, or end elsewhere: op, struct, field, values. */
export const OFFSETS = [
  ...['selective_logp', 'process_advantages', 'rewards_with_kl', 'gae', 'value_loss'].flatMap((op) => of(op, 'layout', 'offsets', ...ROWS)),
  ...['group_advantages', 'multi_reward_advantages', 'process_advantages', 'pass_at_k_advantages'].flatMap((op) =>
    of(op, 'args', 'group_offsets', ...GROUPS),
  ),
  ...of('process_advantages', 'args', 'step_offsets', ...STEPS),
];

export const CONTENTS: BadContents[] = [
  ['selective_logp', 'args', 'targets', Int32Array.of(0, 1, 1, 0, 5, 0), 'targets[4] (sequence 2, token 2) but received 5', 4, 2, 2],
  [
    'policy_loss',
    'batch',
    'old_logps',
    Float32Array.of(0, NaN, 0, 0, 0, 0),
    'old_logps[1] (sequence 0, token 1) but received NaN',
    1,
    0,
    1,
  ],
  [
    'grpo_loss',
    'batch',
    'ref_logps',
    Float32Array.of(0, 0, 0, NaN, 0, -Infinity),
    'ref_logps[5] (sequence 2, token 3) but received -infinity',
    5,
    2,
    3,
  ],
  ['group_advantages', 'args', 'rewards', Float64Array.of(0, NaN, 0), 'rewards[1] but received NaN', 1, -1, -1],
  [
    'multi_reward_advantages',
    'args',
    'rewards',
    Float64Array.of(0, 0, 0, 0, 0, Infinity),
    'rewards[1][2] but received infinity',
    2,
    -1,
    -1,
  ],
  ['multi_reward_advantages', 'args', 'reward_weights', Float64Array.of(0, NaN), 'reward_weights[1] but received NaN', 1, -1, -1],
  ['process_advantages', 'args', 'step_rewards', Float64Array.of(0, 0, 0, NaN), 'step_rewards[3] but received NaN', 3, -1, -1],
  ['process_advantages', 'args', 'step_ends', Int32Array.of(2, 2, 4, 5), 'step_ends[0] but received 2', 0, -1, -1],
  ['process_advantages', 'args', 'step_ends', Int32Array.of(1, 4, 4, 5), 'step_ends[2] but received 4', 2, -1, -1],
  ['pass_at_k_advantages', 'args', 'rewards', Float64Array.of(0, 0, 0.5), 'rewards[2] but received 0.5', 2, -1, -1],
  ['rewards_with_kl', 'args', 'logps', Float32Array.of(0, 0, 0, 0, 0, NaN), 'logps[5] (sequence 2, token 3) but received NaN', 5, 2, 3],
  ['gae', 'args', 'values', Float32Array.of(NaN, 0, 0, 0, 0, 0), 'values[0] (sequence 0, token 0) but received NaN', 0, 0, 0],
  ['gae', 'args', 'last_values', Float32Array.of(0, NaN, NaN), 'last_values[2] but received NaN', 2, -1, -1],
  [
    'value_loss',
    'args',
    'old_values',
    Float32Array.of(0, 0, NaN, 0, 0, 0),
    'old_values[2] (sequence 2, token 0) but received NaN',
    2,
    2,
    0,
  ],
  ['preference_loss', 'args', 'margins', Float32Array.of(0, 0, NaN), 'margins[2] but received NaN', 2, -1, -1],
  ['policy_loss', 'args', 'logps', Float32Array.of(0, 0, 0, 0, 0, NaN), 'logps[5] (sequence 2, token 3) but received NaN', 5, 2, 3],
  ['pass_at_k_advantages', 'args', 'rewards', Float64Array.of(0, NaN, 0.5), 'rewards[1] but received NaN', 1, -1, -1],
  ['rewards_with_kl', 'args', 'rewards', Float64Array.of(0, 0, -Infinity), 'rewards[2] but received -infinity', 2, -1, -1],
  ['rewards_with_kl', 'args', 'ref_logps', Float32Array.of(0, NaN, 0, NaN, 0, 0), 'ref_logps[1] (sequence 0, token 1) but', 1, 0, 1],
  ['gae', 'args', 'rewards', Float32Array.of(0, 0, 0, NaN, Infinity, 0), 'rewards[4] (sequence 2, token 2) but received infinity', 4, 2, 2],
  ['value_loss', 'args', 'values', Float32Array.of(0, 0, 0, NaN, 0, NaN), 'values[5] (sequence 2, token 3) but received NaN', 5, 2, 3],
  ['value_loss', 'args', 'returns', Float32Array.of(NaN, NaN, 0, 0, 0, 0), 'returns[0] (sequence 0, token 0) but received NaN', 0, 0, 0],
  ['preference_loss', 'args', 'chosen_rewards', Float32Array.of(NaN, 0, NaN), 'chosen_rewards[0] but received NaN', 0, -1, -1],
  ['preference_loss', 'args', 'rejected_rewards', Float32Array.of(0, Infinity, 0), 'rejected_rewards[1] but received infinity', 1, -1, -1],
];
