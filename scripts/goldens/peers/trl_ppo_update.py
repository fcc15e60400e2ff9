"""ppo.json: TRL's PPOTrainer.train() run whole for one rollout and a few epochs on it, on tiny models.

Nothing of it is replaced: it samples, scores, whitens and steps by its own code. What it computes is read where it stands: numpy's permutation,
which begins an epoch, and the accelerator's backward() are called from train(), and their wrappers look at its local variables; gradients are
read when the optimizer is about to step. The seed of each case is the first,
from the case's `from` on, that gives completions of the wanted kind.
"""

import math, os, sys, tempfile

import numpy, torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, set_seed
from trl.experimental.ppo import PPOConfig, PPOTrainer
from trl.experimental.utils import get_reward

from .update_common import FAMILIES, MODELS, gradients, numbers, policy, tokenizer, write

PROMPTS = [4, 9, 1, 6, 4, 3, 7, 2]
LENGTH = 10
# No weight is decayed; a large eps, so that an entry's step does not hang on the sign of a gradient that is almost 0.
ADAM = {"learningRate": 0.02, "adamBeta1": 0.0, "adamBeta2": 0.9, "adamEpsilon": 0.01}
BASE = {"gamma": 1.0, "lam": 0.95, "klCoef": 0.05, "klEstimator": "k1", "cliprange": 0.2, "cliprangeValue": 0.2, "vfCoef": 0.1, "epochs": 1}
CASES = [
    {"name": "defaults", "ends": "cut", "from": 12},
    {"name": "gamma, lam, another temperature", "ends": "cut", "from": 5, "gamma": 0.9, "lam": 0.8, "temperature": 0.7},
    {"name": "KL by k3", "ends": "cut", "from": 12, "klEstimator": "k3", "klCoef": 0.2},
    {"name": "four epochs", "ends": "cut", "from": 12, "epochs": 4, "cliprangeValue": 0.1, "vfCoef": 0.5},
    {"name": "missing_eos_penalty", "ends": "last", "from": 78, "missingEosPenalty": 1.5},
    {"name": "completions that end early", "ends": "early", "from": 3, "missingEosPenalty": 1.5, "epochs": 3, "gamma": 0.95, "cliprangeValue": 0.1},
]
OTHER_FAMILIES = ["defaults", "completions that end early"]


def head(hidden, phase):
    return torch.tensor([[0.4 * math.sin(phase + 1.7 * i) for i in range(hidden)]], dtype=torch.float32)


def scalar(family, phase):
    model = AutoModelForSequenceClassification.from_pretrained(os.path.join(MODELS, family), num_labels=1, dtype=torch.float64, attn_implementation="sdpa")
    with torch.no_grad():
        model.score.weight.copy_(head(model.score.weight.shape[1], phase))
    return model


class WrongKind(Exception):
    pass


class Watch:
    """Looks into train()'s frame where it calls out."""

    def __init__(self, ends, eos):
        self.ends, self.eos, self.rollout, self.steps = ends, eos, None, []

    def permutation(self, n):
        if self.rollout is None:
            self.rollout = self.read(sys._getframe(1).f_locals)
        return numpy.arange(n)  # the whole rollout is one mini-batch: the order is of no consequence

    def read(self, local):
        tokens, padding, queries = local["responses"], local["padding_mask"], local["queries"]
        lengths = (~padding).sum(1).tolist()
        ended = [row[n - 1].item() == self.eos for row, n in zip(tokens, lengths)]
        kind = {
            "cut": all(n == LENGTH for n in lengths) and not any(ended),
            "last": all(n == LENGTH for n in lengths) and any(ended) and not all(ended),
            "early": any(n < LENGTH - 1 for n in lengths) and any(n == LENGTH and not e for n, e in zip(lengths, ended)) and all(n > 1 for n in lengths),
        }
        if not kind[self.ends] or any((row[:n] == 0).any() for row, n in zip(tokens, lengths)):  # the pad token is not to be sampled
            raise WrongKind

        whole = torch.cat([queries, local["postprocessed_responses"]], 1)  # train() takes the penalty from its scores in place
        raw = get_reward(local["reward_model"], whole, 0, queries.shape[1])[1]

        def rows(name, more=0):
            """Values of each completion, and of the position after its end where there is one."""
            return [numbers(row[: min(n + more, LENGTH)]) for row, n in zip(local[name], lengths)]

        return {
            "prompts": [row[row != 0].tolist() for row in queries], "completions": [row[:n].tolist() for row, n in zip(tokens, lengths)], "ended": ended,
            "scores": numbers(raw), "logps": rows("logprobs"), "refLogps": rows("ref_logprobs"), "advantages": rows("advantages"),
            "values": rows("values", 1), "returns": rows("returns", 1), "rewards": rows("rewards", 1),
        }  # fmt: skip

    def step(self, local, model):
        self.steps.append({
            "policyLoss": local["pg_loss"].item(), "valueLoss": local["vf_loss"].item(), "valueClipRatio": local["vf_clipfrac"].item(),
            "clipped": (local["pg_losses2"] > local["pg_losses"]).float().mean().item(), "loss": local["loss"].item(),
            "policy": gradients(model.policy), "value": gradients(model.value_model),
        })  # fmt: skip


def attempt(family, case, seed, eos, out):
    c = {**BASE, **case}
    words = tokenizer(eos)
    rows = Dataset.from_list([{"input_ids": [3 + (5 * i + 1 + 7 * k) % 90 for k in range(n)]} for i, n in enumerate(PROMPTS)])
    model, reference = policy(family), policy("llama3-rope" if family == "llama" else family)
    if family != "llama":  # another policy than the one trained: its weights moved
        with torch.no_grad():
            for p in reference.parameters():
                p.mul_(REFERENCE_SCALE)
    value = scalar(family, 1.0)
    args = PPOConfig(output_dir=out, use_cpu=True, bf16=False, report_to=[], save_strategy="no", gradient_checkpointing=False, disable_tqdm=True, seed=seed,
                     per_device_train_batch_size=len(PROMPTS), gradient_accumulation_steps=1, total_episodes=len(PROMPTS), response_length=LENGTH, stop_token="eos",
                     num_sample_generations=0, gamma=c["gamma"], lam=c["lam"], kl_coef=c["klCoef"], kl_estimator=c["klEstimator"], cliprange=c["cliprange"],
                     cliprange_value=c["cliprangeValue"], vf_coef=c["vfCoef"], num_ppo_epochs=c["epochs"], temperature=c.get("temperature", 1.0),
                     missing_eos_penalty=c.get("missingEosPenalty"))  # fmt: skip
    adam = torch.optim.AdamW([*model.parameters(), *value.parameters()], lr=ADAM["learningRate"], betas=(ADAM["adamBeta1"], ADAM["adamBeta2"]),
                             eps=ADAM["adamEpsilon"], weight_decay=0.0)  # fmt: skip
    constant = torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 1.0)
    me = PPOTrainer(args=args, processing_class=words, model=model, ref_model=reference, reward_model=scalar(family, 2.0), train_dataset=rows, value_model=value,
                    optimizers=(adam, constant))  # fmt: skip
    watch = Watch(c["ends"], eos)
    backward, permutation = me.accelerator.backward, numpy.random.permutation

    def watched(loss, **kwargs):
        backward(loss, **kwargs)
        watch.step(sys._getframe(1).f_locals, me.model)

    me.accelerator.backward, numpy.random.permutation = watched, watch.permutation
    try:
        set_seed(seed)
        me.train()
    finally:
        numpy.random.permutation = permutation
    return {"family": family, "name": case["name"], "config": {k: v for k, v in c.items() if k not in ("name", "ends", "from")}, "seed": seed, "eos": eos, **watch.rollout, "steps": watch.steps}


REFERENCE_SCALE = 0.9


def run(family, case):
    with tempfile.TemporaryDirectory() as out:
        for seed in range(case["from"], 400):
            try:
                return attempt(family, case, seed, 2 if case["ends"] == "cut" else 10 + seed % 80, out)
            except WrongKind:
                continue
    raise SystemExit(f"no seed gives the completions of {family}, {case['name']}")


def main():
    cases = [run(family, case) for family in FAMILIES for case in CASES if family == "llama" or case["name"] in OTHER_FAMILIES]
    write("ppo.json", {"adam": ADAM, "valueHead": numbers(head(32, 1.0)), "referenceScale": REFERENCE_SCALE, "cases": cases})
