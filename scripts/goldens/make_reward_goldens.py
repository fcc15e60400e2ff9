#!/usr/bin/env python3
"""Writes test/golden/reward: what transformers computes with a scalar head on the models of test/golden/models, and what TRL's RewardTrainer does.

    python -m venv V && V/bin/pip install torch==2.15.0 transformers==5.23.0 trl==1.16.0 accelerate datasets
    V/bin/python scripts/goldens/make_reward_goldens.py [heads|trl]

heads: AutoModelForSequenceClassification with one label and a head of fixed numbers, in float64 from float32 weights: scores, the gradients of a
preference loss on pairs and of PPO's clipped value loss on tokens (both losses written here in torch, differentiated by autograd).
trl: peers/trl_reward.py.
"""
import json, math, os, platform, sys
import torch, transformers
from transformers import AutoModelForSequenceClassification

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "../../test/golden/models")
OUT = os.path.join(HERE, "../../test/golden/reward")
FAMILIES = ["llama", "llama-tied-bias", "llama3-rope", "llama-yarn", "mistral", "qwen2", "qwen3", "smollm3", "gemma3", "gpt2"]


def ids(n, start):
    return [3 + (start + 7 * i) % 90 for i in range(n)]


# A shared prompt; nothing in common; the chosen side a beginning of the rejected one; one token each.
PAIRS = [(ids(21, 1) + ids(9, 2), ids(21, 1) + ids(23, 3)), (ids(6, 4), ids(30, 5)), (ids(12, 6), ids(12, 6) + ids(4, 8)), ([11], [12])]
MARGINS = [0.5, 0.0, 0.25, 0.0]
CENTER, PAIR_NORMALIZER = 0.05, 5.0
# Prompts of two sequences are equal.
VALUE_BATCH = [(ids(21, 1), ids(9, 2)), (ids(3, 5), ids(17, 3)), (ids(21, 1), ids(1, 4)), ([11], ids(5, 9))]
CLIP, VALUE_NORMALIZER = 0.2, 20.0


def head(hidden):
    return [0.4 * math.sin(1 + 1.7 * i) for i in range(hidden)]


def numbers(values):
    return [float(v) for v in values]


def gradients(model):
    return {name: {"norm": p.grad.norm().item(), "first": numbers(p.grad.flatten()[:4])} for name, p in model.named_parameters() if p.grad is not None}


def value_targets():
    n = sum(len(c) for _, c in VALUE_BATCH)
    returns = [round(math.sin(0.7 * i), 3) for i in range(n)]
    mask = [0 if i % 5 == 3 else 1 for i in range(n)]
    return returns, mask


def one(family):
    model = AutoModelForSequenceClassification.from_pretrained(os.path.join(MODELS, family), num_labels=1, dtype=torch.float64, attn_implementation="eager").eval()
    hidden = model.score.weight.shape[1]
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor([head(hidden)], dtype=torch.float32))

    def score(tokens):  # one sequence at a time: no padding
        return model(torch.tensor([tokens])).logits[0, 0]

    chosen, rejected = (torch.stack([score(pair[side]) for pair in PAIRS]) for side in (0, 1))
    margin = torch.tensor(MARGINS, dtype=torch.float64)
    loss = (-torch.nn.functional.logsigmoid(chosen - rejected - margin) + CENTER * (chosen + rejected) ** 2).sum() / PAIR_NORMALIZER
    loss.backward()
    pairs = {"chosen": numbers(chosen), "rejected": numbers(rejected), "loss": loss.item(), "grads": gradients(model)}
    model.zero_grad()

    def values(prompt, completion):  # of the states in which the completion's tokens are chosen
        base = getattr(model, model.base_model_prefix)
        rows = base(torch.tensor([prompt + completion])).last_hidden_state[0]
        return model.score(rows)[len(prompt) - 1 : -1, 0]

    v = torch.cat([values(p, c) for p, c in VALUE_BATCH])
    returns, mask = value_targets()
    old = [round(x + 0.3 * math.cos(i), 3) for i, x in enumerate(numbers(v))]
    r, o, m = (torch.tensor(x, dtype=torch.float32).double() for x in (returns, old, mask))
    held = torch.clamp(v, o - CLIP, o + CLIP)
    loss = 0.5 * (torch.maximum((v - r) ** 2, (held - r) ** 2) * m).sum() / VALUE_NORMALIZER
    loss.backward()
    clipped = ((held - r) ** 2 > (v - r) ** 2).double()
    return {"scores": pairs, "values": {"values": numbers(v), "old": old, "loss": loss.item(), "clipFraction": ((clipped * m).sum() / m.sum()).item(),
            "grads": gradients(model)}, "architecture": type(model).__name__}


def heads():
    returns, mask = value_targets()
    golden = {"provenance": {"script": "scripts/goldens/make_reward_goldens.py", "torch": torch.__version__, "transformers": transformers.__version__,
                             "python": platform.python_version(), "attention": "eager", "dtype": "float64"},
              "pairs": PAIRS, "margins": MARGINS, "centerRewardsCoefficient": CENTER, "pairNormalizer": PAIR_NORMALIZER,
              "valueBatch": VALUE_BATCH, "returns": returns, "mask": mask, "cliprangeValue": CLIP, "valueNormalizer": VALUE_NORMALIZER,
              "head": head(32), "families": {family: one(family) for family in FAMILIES}}
    with open(os.path.join(OUT, "heads.json"), "w") as f:
        json.dump(golden, f)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    parts = sys.argv[1:] or ["heads", "trl"]
    if "heads" in parts:
        heads()
    if "trl" in parts:
        from peers import trl_reward
        trl_reward.main(OUT)
