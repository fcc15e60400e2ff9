"""trl_loss.json: TRL's GRPOTrainer and GMPOTrainer."""

from . import trl_cases, trl_run
from .common import sets_to_json, write

FIELDS = ["logits", "targets", "mask", "truncated", "advantages", "tokenAdvantages", "oldLogps", "refLogps", "samplerLogps"]
GMPO_KL = "TRL's GMPO never multiplies the KL by the ratio; we do unless useBiasCorrectionKl is false, as with every other loss type."
GMPO_EMPTY = (
    "TRL's GMPO takes a sequence without selected tokens as ratio 1, adding -A / n to the loss; ours adds 0 (the gradient is the same)."
)
SHARES = "At level sequence TRL counts clipped sequences, those without tokens too; we count clipped tokens."
LUSPO_TOKEN = "TRL runs luspo at level token; we refuse it, since its weight 1 / n is that of a sequence's ratio."
VESPO_BOUND = "With bounds that leave out 1, TRL's sum of log weights takes up what stands behind the mask; ours sums selected tokens."
VESPO_SEQUENCE = "TRL adds the sampler's ratio of the sequence once to the log weight of vespo; we refuse the sequence modes there."


def name(c, uses, extras):
    parts = [c["lossType"], c.get("importanceSamplingLevel", "token"), "off policy" if "oldLogps" in uses else "on policy"]
    return " ".join(parts + [f"{k}={v}" for k, v in {**c, **extras}.items() if k not in ("lossType", "importanceSamplingLevel")])


def case(sets, set_name, c, uses, extras, **more):
    loss, gradient, metrics = trl_run.loss(c, sets[set_name], uses, **extras)
    uses = [extras.get("advantages", "advantages")] + uses + (["refLogps"] if c.get("beta") else [])
    out = {"name": name(c, uses, extras), "inputs": set_name, "uses": uses, "config": c, **more}
    if c.get("importanceSamplingLevel") == "sequence" and "high" in metrics:
        out["metricsDiffer"] = SHARES
    if c["lossType"] == "gmpo":
        if c.get("beta") and c.get("useBiasCorrectionKl", True):
            out["differs"] = GMPO_KL
        elif empty(sets[set_name], c):
            out.update(differs=GMPO_EMPTY, differsIn=["loss"])
    return {**out, "loss": loss, "gradLogits": gradient, "metrics": metrics}


def empty(data, c):
    """Is there a sequence without selected tokens?"""
    gone = data["truncated"].bool().tolist() if c.get("maskTruncatedCompletions") else [False] * len(data["mask"])
    return any(cut or not row.any() for cut, row in zip(gone, data["mask"]))


def main():
    sets, cases = trl_cases.input_sets(), []
    for part in (trl_cases.core, trl_cases.shapes, trl_cases.masks, trl_cases.sampler, trl_cases.selection, trl_cases.together):
        cases += [case(sets, *args) for args in part()]
    for beta in ({}, {"beta": 0.1}):
        refused = {"lossType": "luspo", "importanceSamplingLevel": "token", **beta}
        cases.append(case(sets, "far", refused, ["oldLogps"], {}, differs=LUSPO_TOKEN, refused=True))
    refused = {"lossType": "vespo", "samplerImportanceSampling": "sequence_truncate"}
    cases.append(case(sets, "far", refused, ["oldLogps", "samplerLogps"], {}, differs=VESPO_SEQUENCE, refused=True))
    bound = {"lossType": "vespo", "samplerImportanceSampling": "token_truncate", "samplerImportanceSamplingClipMax": 0.9}
    cases.append(case(sets, "lengths", bound, ["oldLogps", "samplerLogps"], {}, differs=VESPO_BOUND))
    write(
        "trl_loss.json",
        "TRL: GRPOTrainer._generate_and_score_completions and _compute_loss (gmpo: GMPOTrainer._compute_loss), unchanged, float64",
        "trl",
        cases,
        sets_to_json(sets, FIELDS),
    )
