// The suite's linear case (lib/bench/linear.ts) at a shape of your own.
// node benchmarks/linear.mjs [--tokens 512] [--width 576] [--vocab 49152] [--dtype float32,bfloat16] [--rounds 5] [--workspace 268435456] [--json]
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const { linearCase } = require('../dist/cjs/bench/linear.js');
const { caseText } = require('../dist/cjs/bench/output.js');

const { values: options } = parseArgs({
  options: {
    tokens: { type: 'string', default: '512' },
    width: { type: 'string', default: '576' },
    vocab: { type: 'string', default: '49152' },
    dtype: { type: 'string', default: 'float32,bfloat16' },
    rounds: { type: 'string', default: '5' },
    workspace: { type: 'string', default: String(2 ** 28) },
    json: { type: 'boolean', default: false },
  },
});
const shape = {
  tokens: Number(options.tokens),
  width: Number(options.width),
  vocab: Number(options.vocab),
  workspaceBytes: Number(options.workspace),
};
for (const dtype of options.dtype.split(',')) {
  const result = await linearCase({ ...shape, dtype }, { rounds: Number(options.rounds) });
  console.log(options.json ? JSON.stringify(result) : caseText(result));
}
process.exit(0); // the ops' thread would keep the process for a while
