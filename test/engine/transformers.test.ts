// A folder written by Policy.save is an ordinary Hugging Face folder: transformers opens it and computes the same logits.
// Needs a Python with transformers (FUSED_GRPO_PYTHON, else python3); without one the tests are skipped, saying so.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { families, golden, largest, lists, loadGolden } from './support.js';

const python = process.env['FUSED_GRPO_PYTHON'] ?? 'python3';
const found = spawnSync(python, ['-c', 'import torch, transformers'], { encoding: 'utf8' });
const missing = found.status === 0 ? undefined : `${python} cannot import torch and transformers`;
if (missing) console.warn(`Skipped: ${missing} (name another Python in FUSED_GRPO_PYTHON)`);

/** argv: pairs of a folder and a JSON list of ids; writes each one's float32 logits to <folder>/logits.f32. */
const SCRIPT = `
import json, sys, torch, transformers
for folder, ids in zip(sys.argv[1::2], sys.argv[2::2]):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    unmatched = [k for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[k]]
    assert not unmatched, f"{folder}: {unmatched}"
    with torch.no_grad():
        logits = model.eval()(torch.tensor([json.loads(ids)])).logits[0].float()
    open(folder + "/logits.f32", "wb").write(logits.numpy().tobytes())
    print(str(model.dtype).removeprefix("torch."), tuple(logits.shape))
`;

type DType = 'float32' | 'bfloat16';
const cases: [string, DType][] = [
  ...families.map((name): [string, DType] => [name, 'float32']),
  ['llama', 'bfloat16'],
  ['qwen3', 'bfloat16'],
];
const logits = new Map<string, Float32Array>();
let dir: string;
let printed: string[];

async function save(name: string, dtype: DType): Promise<string[]> {
  const folder = join(dir, `${name}-${dtype}`);
  const policy = await loadGolden(name, dtype);
  await policy.save(folder);
  const ids = golden(name).ids;
  logits.set(folder, await policy.native.logits(lists(ids)).promise);
  policy.dispose();
  return [folder, JSON.stringify(ids)];
}

(missing ? describe.skip : describe)('transformers opens what Policy.save wrote', () => {
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'fg-transformers-'));
    const args: string[] = [];
    for (const [name, dtype] of cases) args.push(...(await save(name, dtype)));
    const run = spawnSync(python, ['-c', SCRIPT, ...args], { encoding: 'utf8' });
    if (run.status !== 0) throw new Error(run.stderr);
    printed = run.stdout.trim().split('\n');
  }, 300_000); // importing transformers alone may take a minute on a busy machine
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test.each(cases)('%s as %s', (name, dtype) => {
    const folder = join(dir, `${name}-${dtype}`);
    const ours = logits.get(folder)!;
    const bytes = readFileSync(join(folder, 'logits.f32'));
    const theirs = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    expect(printed[cases.findIndex(([n, d]) => n === name && d === dtype)]).toContain(dtype);
    expect(theirs).toHaveLength(ours.length);
    const scale = largest(theirs.map(Math.abs));
    // bfloat16 has 8 bits: activations are rounded in another order in some places.
    expect(largest(ours.map((z, i) => Math.abs(z - theirs[i]!))) / scale).toBeLessThan(dtype === 'float32' ? 2e-5 : 0.04);
  });
});
