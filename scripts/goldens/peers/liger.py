"""liger_loss.json: Liger-Kernel's chunked loss without torch.compile, from logits (the head is the identity; it computes in float32),
and its loss function alone, from log-probs in float64."""

import importlib, itertools, math

import torch

from .common import input_set, sets_to_json, shell, write

FIELDS = ["logits", "targets", "mask", "advantages", "logps", "oldLogps", "refLogps", "samplerLogps"]
KINDS = {
    "grpo": {},
    "bnpo": {},
    "dr_grpo": {"maxCompletionLength": 8},
    "dapo": {},
    "cispo": {"epsilonHigh": 1.4},
    "sapo": {},
    "vespo": {},
    "luspo": {"importanceSamplingLevel": "sequence"},
}
CLIP = ["grpo", "bnpo", "dr_grpo", "dapo"]
LUSPO = "With a KL or a sampler weight per token, Liger sums luspo's term behind the mask too; ours over selected tokens, as TRL."
DELTA = "Liger counts clipped tokens before delta bounds the ratio; ours after, as TRL."
VESPO_BOUND = "With bounds that leave out 1, Liger's sum of log weights takes up what stands behind the mask; ours sums selected tokens."
SAMPLER = "samplerImportanceSampling"


def load():
    shell("liger_kernel.chunked_loss")
    return importlib.import_module("liger_kernel.chunked_loss.grpo_loss")


liger = load()


def input_sets():
    return {
        "lengths": input_set(
            "liger lengths d", [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], 5, [1.3, -0.7, 0.4, -1.0]
        ),
        "holes": input_set("liger holes b", [[1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1]], 6, [-0.9, 0.8, 1.6], shift=0.7),
    }


def cases():
    turn = itertools.cycle([("lengths", True), ("holes", False), ("holes", True), ("lengths", False)])  # (inputs, from logits?)
    betas = [{}, {"beta": 0.1, "useBiasCorrectionKl": True}, {"beta": 0.1, "useBiasCorrectionKl": False}]
    for (kind, needs), beta in itertools.product(KINDS.items(), betas):
        differs = {"differs": LUSPO} if kind == "luspo" and beta else {}
        yield *next(turn), {"lossType": kind, **needs, **beta}, ["oldLogps"], differs
    for kind, more in itertools.product(
        CLIP, [{"importanceSamplingLevel": "sequence", "epsilon": 0.03, "epsilonHigh": 0.04}, {"delta": 1.05}]
    ):
        yield *next(turn), {"lossType": kind, **KINDS[kind], **more, "beta": 0.1, "useBiasCorrectionKl": "delta" in more}, ["oldLogps"], {}
    for kind in ["grpo", "cispo", "sapo", "vespo"]:
        yield *next(turn), {"lossType": kind, **KINDS[kind], "temperature": 0.8}, [], {}
    yield "holes", True, {"lossType": "sapo", "sapoTemperaturePos": 0.5, "sapoTemperatureNeg": 2.0}, ["oldLogps"], {}
    yield "lengths", False, {"lossType": "vespo", "vespoKPos": 1.0, "vespoLambdaPos": 0.5, "vespoKNeg": 2.0, "vespoLambdaNeg": 1.0}, [
        "oldLogps"
    ], {}
    for kind, mode in itertools.product(["dapo", "cispo", "vespo", "luspo"], ["token_truncate", "sequence_truncate"]):
        if (kind, mode) != ("vespo", "sequence_truncate"):
            differs = {"differs": LUSPO} if (kind, mode) == ("luspo", "token_truncate") else {}
            bound = {SAMPLER: mode, f"{SAMPLER}ClipMax": 1.02 if kind == "vespo" else 0.9}
            yield *next(turn), {"lossType": kind, **KINDS[kind], **bound}, ["oldLogps", "samplerLogps"], differs
    bound = {SAMPLER: "token_truncate", f"{SAMPLER}ClipMax": 0.9}
    yield "lengths", False, {"lossType": "vespo", **bound}, ["oldLogps", "samplerLogps"], {"differs": VESPO_BOUND}
    yield "holes", False, {"lossType": "dapo", "normalizer": 23}, ["oldLogps"], {"items": 23}


def ratio(c, data):
    """Liger is handed the sampler's ratio: here TRL's definition (trl_run.py has TRL's own code do it) is written out."""
    if SAMPLER not in c:
        return None
    level, rule = c[SAMPLER].split("_")
    d = torch.nan_to_num((data["oldLogps"] - data["samplerLogps"]) * data["mask"], nan=0.0)
    r = torch.exp(d.sum(-1, keepdim=True) if level == "sequence" else d)
    low, high = c.get(f"{SAMPLER}ClipMin", -math.inf), c.get(f"{SAMPLER}ClipMax", 3.0)
    return r.clamp(low, high) if rule == "truncate" else torch.where((r >= low) & (r <= high), r, 0.0)


def options(c):
    low = c.get("epsilon", 0.2)
    return dict(
        epsilon_low=low,
        epsilon_high=c.get("epsilonHigh", low),
        beta=c.get("beta", 0.0),
        loss_type=c["lossType"],
        max_completion_length=c.get("maxCompletionLength"),
        importance_sampling_level=c.get("importanceSamplingLevel", "token"),
        sapo_temperature_pos=c.get("sapoTemperaturePos", 1.0),
        sapo_temperature_neg=c.get("sapoTemperatureNeg", 1.05),
        delta=c.get("delta"),
        use_bias_correction_kl=c.get("useBiasCorrectionKl", True),
        vespo_k_pos=c.get("vespoKPos", 2.0),
        vespo_lambda_pos=c.get("vespoLambdaPos", 3.0),
        vespo_k_neg=c.get("vespoKNeg", 3.0),
        vespo_lambda_neg=c.get("vespoLambdaNeg", 2.0),
    )


def case(sets, name, from_logits, c, uses, extras):
    data, items = sets[name], extras.pop("items", None)
    old, ref, mask = data["oldLogps"] if "oldLogps" in uses else None, data["refLogps"] if c.get("beta") else None, data["mask"].double()
    if from_logits:
        x = data["logits"].clone().requires_grad_(True)
        head = torch.eye(x.shape[-1], dtype=torch.float64)
        fused = liger.LigerFusedLinearGRPOLoss(
            compiled=False, use_ref_model=bool(c.get("beta")), temperature=c.get("temperature", 1.0), **options(c)
        )
        loss, metrics = fused(
            x, head, data["targets"], mask, data["advantages"], None, ref, old, vllm_is_ratio=ratio(c, data), num_items_in_batch=items
        )
    else:
        c = {k: v for k, v in c.items() if k != "temperature"}  # the log-probs are what they are
        x = data["logps"].clone().requires_grad_(True)
        loss, metrics = liger.LigerFusedLinearGRPOFunction.ppo_loss_fn(
            x, mask, data["advantages"], mask, ref, old, vllm_is_ratio=ratio(c, data), num_items_in_batch=items, **options(c)
        )
    loss.backward()
    found = {"region": metrics[-1].item(), **({"kl": metrics[0].item()} if c.get("beta") else {})}
    uses = ["advantages"] + uses + (["refLogps"] if c.get("beta") else [])
    if "delta" in c:
        extras["metricsDiffer"] = DELTA
    title = " ".join(["logits" if from_logits else "log-probs"] + [f"{k}={v}" for k, v in c.items()] + [name] + uses[1:])
    gradient = {"gradLogits" if from_logits else "gradLogps": x.grad}
    return {"name": title, "inputs": name, "uses": uses, "config": c, **extras, "loss": loss.item(), **gradient, "metrics": found}


def main():
    sets = input_sets()
    note = (
        "gradLogits: LigerFusedLinearGRPOLoss, compiled=False, which computes in float32. "
        "gradLogps: LigerFusedLinearGRPOFunction.ppo_loss_fn in float64. The sampler's ratio is written out in the script."
    )
    write(
        "liger_loss.json",
        "liger_kernel.chunked_loss.grpo_loss",
        "liger_kernel",
        [case(sets, *args) for args in cases()],
        sets_to_json(sets, FIELDS),
        note,
    )
