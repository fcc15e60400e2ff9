#!/usr/bin/env python3
"""Losses and logit gradients of TRL's own GRPOTrainer._compute_loss, on small random inputs, in float64.

    pip install torch transformers trl datasets accelerate
    python scripts/goldens/make_trl_goldens.py > test/golden/trl_loss.json

TRL's method runs unchanged, on a stand-in for the trainer whose log-probs come from given logits by TRL's own selective_log_softmax.
"""
import itertools, json, sys
from types import SimpleNamespace

import torch, transformers, trl
from trl import GRPOTrainer
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

SEED, B, T, V = 20261122, 4, 5, 7


class StandIn(SimpleNamespace):
    def __getattr__(self, name):  # whatever TRL reads and does not matter here (logging) is a harmless default
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def run(case, data):
    logits = data["logits"].clone().requires_grad_(True)
    metrics = {"train": __import__("collections").defaultdict(list), "eval": __import__("collections").defaultdict(list)}

    def logps(*_args, **_kwargs):
        scaled = logits / case["temperature"]
        return selective_log_softmax(scaled, data["ids"]), entropy_from_logits(scaled).detach(), None

    gather = SimpleNamespace(gather=lambda x: x.reshape(-1), num_processes=1, reduce=lambda x, **_: x, sync_gradients=True)
    args = SimpleNamespace(delta=case["delta"], use_bias_correction_kl=case["useBiasCorrectionKl"], steps_per_generation=1)
    me = StandIn(
        loss_type=case["lossType"], importance_sampling_level="token", epsilon_low=case["epsilon"], epsilon_high=case["epsilonHigh"], beta=case["beta"],
        args=args, max_completion_length=case["maxCompletionLength"], current_gradient_accumulation_steps=1, accelerator=gather, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, use_vllm=False, aux_loss_enabled=False, _entropy_bonus_enabled=False, _metrics=metrics,
        model=SimpleNamespace(training=True), _get_per_token_logps_and_entropies=logps,
    )
    mask = data["mask"]
    inputs = {
        "prompt_ids": torch.zeros(B, 1, dtype=torch.long), "prompt_mask": torch.ones(B, 1, dtype=torch.long), "completion_ids": data["ids"], "completion_mask": mask,
        "advantages": data["advantages"], "num_items_in_batch": mask.sum(),
    }
    if case["old"]:
        inputs["old_per_token_logps"] = data["old"]
    if case["beta"]:
        inputs["ref_per_token_logps"] = data["ref"]
    loss = GRPOTrainer._compute_loss(me, None, inputs)
    loss.backward()
    found = {k: float(torch.as_tensor(v[-1]).float().mean()) for k, v in metrics["train"].items() if v and k in ("kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")}
    return {**case, "loss": float(loss), "gradLogits": logits.grad.flatten().tolist(), "metrics": found}


def main():
    torch.manual_seed(SEED)
    logits = torch.randn(B, T, V, dtype=torch.float64) * 2
    ids = torch.randint(0, V, (B, T))
    base = torch.log_softmax(logits, -1).gather(-1, ids[..., None])[..., 0]
    lengths = [5, 3, 1, 0]
    data = {
        "logits": logits, "ids": ids, "mask": torch.tensor([[int(t < n) for t in range(T)] for n in lengths]),
        "advantages": torch.tensor([1.3, -0.7, 0.4, -1.0], dtype=torch.float64),
        "old": base + 0.4 * torch.randn(B, T, dtype=torch.float64), "ref": base + 0.5 * torch.randn(B, T, dtype=torch.float64),
    }
    cases = []
    for loss_type, beta, delta, old in itertools.product(["grpo", "bnpo", "dr_grpo", "dapo"], [0.0, 0.1], [None, 1.3], [True, False]):
        for corrected, (low, high), temperature in [(True, (0.2, 0.28), 1.0), (False, (0.1, 0.1), 0.7)]:
            if temperature != 1 and old is False and delta is not None:
                continue
            cases.append(run({"lossType": loss_type, "beta": beta, "delta": delta, "old": old, "useBiasCorrectionKl": corrected, "epsilon": low, "epsilonHigh": high,
                              "temperature": temperature, "maxCompletionLength": 8}, data))
    out = {
        "provenance": {"source": "TRL GRPOTrainer._compute_loss, unchanged, float64", "trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__,
                       "script": "scripts/goldens/make_trl_goldens.py", "seed": SEED},
        "shape": {"B": B, "T": T, "V": V}, "lengths": lengths,
        **{k: v.flatten().tolist() for k, v in data.items()}, "cases": cases,
    }
    json.dump(out, sys.stdout)
    print()


main()
