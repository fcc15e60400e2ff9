"""grpo.json: TRL's GRPOTrainer.compute_loss on fixed prompts and completions, and the gradients that loss.backward() leaves in the model.

A whole GRPOTrainer is made (its fused head included); only the batch, which it would have generated, is given. Prompts are padded on the
left, completions on the right, as its own collation does. Old and reference log-probs are the model's own, moved by fixed noise.
"""

import math, tempfile

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from .update_common import FAMILIES, gradients, numbers, policy, tokenizer, write

PROMPTS = [4, 9, 1]  # their lengths; two completions each
COMPLETIONS = [9, 1, 14, 6, 11, 3]
ADVANTAGES = [1.25, -0.5, 0.75, 2.0, -1.0, -0.375]
MAX = 16
NOT_TRAINED = [(0, 2), (2, 5), (2, 6), (4, 0)]  # (completion, token): a tool's tokens
OFF = {"old": True}
CASES = [
    {"name": "dapo, on policy", "config": {"lossType": "dapo"}},
    {"name": "dapo", "config": {"lossType": "dapo", "epsilonHigh": 0.28}, **OFF},
    {"name": "grpo", "config": {"lossType": "grpo"}, **OFF},
    {"name": "grpo, a mask", "config": {"lossType": "grpo"}, **OFF, "mask": True},
    {"name": "bnpo", "config": {"lossType": "bnpo"}, **OFF, "mask": True},
    {"name": "dr_grpo", "config": {"lossType": "dr_grpo", "maxCompletionLength": MAX}, **OFF},
    {"name": "GSPO", "config": {"lossType": "grpo", "importanceSamplingLevel": "sequence", "epsilon": 0.03, "epsilonHigh": 0.04}, **OFF},
    {"name": "cispo", "config": {"lossType": "cispo", "epsilonHigh": 1.1}, **OFF},
    {"name": "dapo, beta", "config": {"lossType": "dapo", "beta": 0.1}, **OFF, "mask": True},
    {"name": "grpo, beta without bias correction", "config": {"lossType": "grpo", "beta": 0.1, "useBiasCorrectionKl": False}, **OFF},
    {"name": "GSPO, beta", "config": {"lossType": "grpo", "importanceSamplingLevel": "sequence", "epsilon": 0.03, "beta": 0.05}, **OFF},
    {"name": "dapo, two-sided", "config": {"lossType": "dapo", "delta": 1.3}, **OFF},
    {"name": "dapo, temperature", "config": {"lossType": "dapo", "temperature": 0.7}, **OFF},
    {"name": "dapo, entropy bonus", "config": {"lossType": "dapo", "entropyCoef": 0.1}, **OFF, "mask": True},
    {"name": "sapo", "config": {"lossType": "sapo"}, **OFF},
    {"name": "dapo, an advantage per token", "config": {"lossType": "dapo"}, **OFF, "perToken": True},
    {"name": "dapo, two micro-batches", "config": {"lossType": "dapo"}, **OFF, "parts": 2},
    {"name": "grpo, two micro-batches", "config": {"lossType": "grpo", "beta": 0.1}, **OFF, "parts": 2},
]
NAMES = {
    "lossType": "loss_type", "epsilon": "epsilon", "epsilonHigh": "epsilon_high", "importanceSamplingLevel": "importance_sampling_level", "delta": "delta",
    "maxCompletionLength": "max_completion_length", "beta": "beta", "useBiasCorrectionKl": "use_bias_correction_kl", "temperature": "temperature",
    "entropyCoef": "entropy_coef",
}  # fmt: skip


def ids(n, start):
    return [3 + (start + 7 * i) % 90 for i in range(n)]


def sequences():
    prompts = [ids(n, 5 * i + 1) for i, n in enumerate(PROMPTS)]
    return [prompts[i // 2] for i in range(len(COMPLETIONS))], [ids(n, 11 * i + 2) for i, n in enumerate(COMPLETIONS)]


def padded(rows, left=False, value=0.0):
    width = max(map(len, rows))
    fill = [[value] * (width - len(r)) for r in rows]
    return torch.tensor([f + list(r) if left else list(r) + f for r, f in zip(rows, fill)])


def noise(size, i, t, phase):
    return size * math.sin(phase + 1.9 * i + 0.8 * t)


def moved(logps, size, phase):
    return [[round(v + noise(size, i, t, phase), 4) for t, v in enumerate(row)] for i, row in enumerate(logps)]


def batch(case, logps):
    prompts, completions = sequences()
    mask = [[int((i, t) not in NOT_TRAINED or not case.get("mask")) for t in range(len(c))] for i, c in enumerate(completions)]
    token_advantages = [[round(a + noise(0.5, i, t, 0.3), 3) for t in range(len(c))] for i, (a, c) in enumerate(zip(ADVANTAGES, completions))]
    inputs = {
        "prompt_ids": padded(prompts, left=True, value=0), "prompt_mask": padded([[1] * len(p) for p in prompts], left=True, value=0),
        "completion_ids": padded(completions, value=0), "completion_mask": padded([[1] * len(c) for c in completions], value=0),
        "tool_mask": padded(mask, value=0),
        "advantages": padded(token_advantages).double() if case.get("perToken") else torch.tensor(ADVANTAGES, dtype=torch.float64),
    }  # fmt: skip
    given = {"mask": [m for row in mask for m in row], "advantages": [a for row in token_advantages for a in row] if case.get("perToken") else ADVANTAGES}
    for key, ours, size, phase, wanted in [("old_per_token_logps", "oldLogps", 0.25, 0.2, case.get("old")), ("ref_per_token_logps", "refLogps", 0.5, 1.1, case["config"].get("beta"))]:
        if wanted:
            rows = moved(logps, size, phase)
            inputs[key], given[ours] = padded(rows).double(), [v for row in rows for v in row]
    return inputs, given


def trainer(model, case, out):
    config = {NAMES[k]: v for k, v in case["config"].items()}
    args = GRPOConfig(output_dir=out, use_cpu=True, bf16=False, report_to=[], save_strategy="no", gradient_checkpointing=False, per_device_train_batch_size=2,
                      num_generations=2, gradient_accumulation_steps=case.get("parts", 1), **{"max_completion_length": MAX, **config})  # fmt: skip
    rows = Dataset.from_list([{"prompt": "t5"}] * 4)
    me = GRPOTrainer(model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=args, train_dataset=rows, processing_class=tokenizer())
    me.current_gradient_accumulation_steps = case.get("parts", 1)
    me.model.train()
    return me


def current(model, temperature):
    """The model's log-probs, a sequence at a time: what old and reference log-probs are moved from."""
    rows = []
    for prompt, completion in zip(*sequences()):
        with torch.no_grad():
            x = torch.log_softmax(model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature, -1)
        rows.append(x.gather(-1, torch.tensor(completion)[:, None])[:, 0].tolist())
    return rows


def run(family, case):
    with tempfile.TemporaryDirectory() as out:
        model = policy(family)
        inputs, given = batch(case, current(model, case["config"].get("temperature", 1.0)))
        me = trainer(model, case, out)
        parts, count, loss = case.get("parts", 1), len(COMPLETIONS), 0.0
        # TRL counts the tokens of the whole generation batch, as it does when one is split.
        items = inputs["completion_mask"].mul(inputs["tool_mask"]).sum()
        size = count // parts
        for k in range(parts):
            part = {key: value[k * size : (k + 1) * size] for key, value in inputs.items()}
            value = me.compute_loss(me.model, {**part, "num_items_in_batch": items})
            value.backward()
            loss += value.item()
        metrics = {name.split("/")[1]: values[0] for name, values in me._metrics["train"].items() if name.startswith("clip_ratio/") and parts == 1}
        return {"family": family, "name": case["name"], "config": case["config"], **given, "loss": loss, "clipped": metrics.get("region_mean"), "grads": gradients(model)}


def main():
    prompts, completions = sequences()
    cases = [run(family, case) for family in FAMILIES for case in CASES]
    write("grpo.json", {"prompts": prompts, "completions": completions, "cases": cases})
