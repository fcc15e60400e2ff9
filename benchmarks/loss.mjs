// The suite's loss case (lib/bench/loss.ts) at a shape of your own, and for losses by the names of presets.
// node benchmarks/loss.mjs [--losses gspo,cispo] [--tokens 512] [--vocab 151936] [--rounds 7] [--dtype float32,bfloat16] [--json]
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const { presets } = require('../dist/cjs/index.js');
const { lossCase } = require('../dist/cjs/bench/loss.js');
const { caseText } = require('../dist/cjs/bench/output.js');

const { values: options } = parseArgs({
  options: {
    tokens: { type: 'string', default: '512' },
    vocab: { type: 'string', default: '151936' },
    rounds: { type: 'string', default: '7' },
    dtype: { type: 'string', default: 'float32,bfloat16' },
    losses: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
  },
});
const shape = { tokens: Number(options.tokens), vocab: Number(options.vocab), selected: 1, level: 'token' };
const losses = Object.fromEntries(
  options.losses
    .split(',')
    .filter(Boolean)
    .map((name) => {
      if (!presets[name]) throw new Error(`No preset '${name}': one of ${Object.keys(presets).join(', ')}`);
      return [name, { ...presets[name], beta: 0, maxCompletionLength: shape.tokens / 2, maskTruncatedCompletions: false }];
    }),
);
for (const dtype of options.dtype.split(',')) {
  const result = await lossCase({ ...shape, dtype, losses }, { rounds: Number(options.rounds) });
  console.log(options.json ? JSON.stringify(result) : caseText(result));
}
