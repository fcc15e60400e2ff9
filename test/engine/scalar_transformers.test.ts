// A folder written by a model with a scalar head is one of transformers' sequence classification: AutoModelForSequenceClassification opens it
// and computes the same scores, in a padded batch. Needs a Python with transformers (FUSED_GRPO_PYTHON, else python3), else it is skipped.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ScalarModel } from '../../lib/engine/scalar-model.js';
import { RewardModel } from '../../lib/reward/reward-model.js';
import { RewardTrainer } from '../../lib/trainer/reward-trainer.js';
import { families, largest, loadGolden } from './support.js';
import { headGolden } from './scalar_support.js';

const python = process.env['FUSED_GRPO_PYTHON'] ?? 'python3';
const found = spawnSync(python, ['-c', 'import torch, transformers'], { encoding: 'utf8' });
const missing = found.status === 0 ? undefined : `${python} cannot import torch and transformers`;
if (missing) console.warn(`Skipped: ${missing} (name another Python in FUSED_GRPO_PYTHON)`);

/** stdin: [[folder, sequences of ids, or texts], ...]; prints the scores of each as JSON. */
const SCRIPT = `
import json, sys, torch, transformers
for folder, items in json.load(sys.stdin):
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto", output_loading_info=True)
    unmatched = [k for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[k]]
    assert not unmatched, f"{folder}: {unmatched}"
    assert model.config.num_labels == 1
    pad = model.config.pad_token_id
    if isinstance(items[0], str):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        items = [tokenizer(text + tokenizer.eos_token).input_ids for text in items]
    longest = max(map(len, items))
    ids = torch.tensor([s + [pad] * (longest - len(s)) for s in items])
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in items])
    with torch.no_grad():
        print(json.dumps(model.eval()(ids, attention_mask=mask).logits[:, 0].tolist()))
`;

type DType = 'float32' | 'bfloat16';
const cases: [string, DType][] = [...families.map((name): [string, DType] => [name, 'float32']), ['qwen3', 'bfloat16']];
const sequences = headGolden.pairs.flat();
const texts = ['Hello world', 'The quick brown fox jumps', "naïve café, it's", '1 2 3 10 20 300'];

(missing ? describe.skip : describe)('transformers opens what models with a scalar head write', () => {
  let dir: string;
  let theirs: number[][];
  const ours: ArrayLike<number>[] = [];

  async function save(name: string, dtype: DType): Promise<string> {
    const policy = await loadGolden(name, dtype);
    const model = await ScalarModel.from(policy, { seed: 3, std: 0.5 });
    policy.dispose();
    const folder = join(dir, `${name}-${dtype}`);
    await model.save(folder);
    const ids = sequences.map((s) => Int32Array.from(s));
    ours.push(
      await model.values(
        ids,
        ids.map(() => new Int32Array()),
        { positions: 'last' },
      ),
    );
    model.dispose();
    return folder;
  }

  /** A run's model, whose tokenizer has no pad token: the end token pads. */
  async function trained(): Promise<string> {
    const outputDir = join(dir, 'run');
    const trainer = new RewardTrainer({
      model: join(__dirname, '../golden/reward/model'),
      trainDataset: texts.slice(1).map((rejected) => ({ chosen: texts[0]!, rejected })),
      config: { outputDir, maxSteps: 3, learningRate: 1e-3 },
    });
    await trainer.train();
    trainer.dispose();
    const model = await RewardModel.load(outputDir);
    ours.push(await model.score(texts));
    model.dispose();
    return join(outputDir, 'model');
  }

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'fg-scalar-'));
    const input: [string, unknown][] = [];
    for (const [name, dtype] of cases) input.push([await save(name, dtype), sequences]);
    input.push([await trained(), texts]);
    const run = spawnSync(python, ['-c', SCRIPT], { encoding: 'utf8', input: JSON.stringify(input) });
    if (run.status !== 0) throw new Error(run.stderr);
    theirs = run.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as number[]);
  }, 300_000); // importing transformers alone may take a minute on a busy machine
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test.each([...cases.map(([name, dtype]) => `${name} as ${dtype}`), 'a trained one'].map((name, i) => [name, i] as const))(
    '%s',
    (name, i) => {
      expect(theirs[i]).toHaveLength(ours[i]!.length);
      const scale = Math.max(1, largest(theirs[i]!.map(Math.abs)));
      const bound = name.endsWith('bfloat16') ? 0.04 : 2e-5;
      expect(largest(theirs[i]!.map((score, k) => Math.abs(score - ours[i]![k]!))) / scale).toBeLessThan(bound);
    },
  );
});
