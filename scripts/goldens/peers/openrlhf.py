"""openrlhf_loss.json: OpenRLHF's PolicyLoss with its KL estimates and aggregation, of log-probs."""

import importlib, itertools

from .common import input_set, sets_to_json, shell, stub, write

FIELDS = ["mask", "advantages", "tokenAdvantages", "logps", "oldLogps", "refLogps", "samplerLogps"]
MEANS = [{"lossType": "dapo"}, {"lossType": "grpo", "emptySequences": "exclude"}]  # token_level_loss True, False
SAMPLER = "samplerImportanceSampling"


def load():
    stub("deepspeed")
    shell("openrlhf.models")
    return importlib.import_module("openrlhf.models.loss"), importlib.import_module("openrlhf.models.utils")


losses, utils = load()


def input_sets():
    return {
        "lengths": input_set(
            "openrlhf lengths", [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], 5, [1.3, -0.7, 0.4, -1.0]
        ),
        "steep": input_set(
            "openrlhf steep b", [[1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 1, 0]], 5, [-0.9, 0.6, -1.6], shift=0.9
        ),
    }


def cases():
    names = itertools.cycle(["lengths", "steep"])
    for mean, dual in itertools.product(MEANS, [{}, {"dualClip": 1.2}, {"dualClip": 3.0}]):
        yield next(names), {**mean, **dual, "epsilon": 0.15, "epsilonHigh": 0.27}, {}
    for name, mean in itertools.product(["lengths", "steep"], MEANS):
        yield name, {**mean, "dualClip": 1.5}, {"advantages": "tokenAdvantages"}
    for name, dual in itertools.product(["lengths", "steep"], [{}, {"dualClip": 1.2}]):
        yield name, {**MEANS[1], **dual, "importanceSamplingLevel": "sequence", "epsilon": 0.03, "epsilonHigh": 0.04}, {}
    for mean, (kind, gradient) in itertools.product(MEANS, [("k1", 0), ("k2", 0), ("k3", 0), ("k1", 1), ("k3", 1)]):
        kl = {"beta": 0.1, "klEstimator": kind, **({"klGradient": "straight_through"} if gradient else {"useBiasCorrectionKl": False})}
        yield next(names), {**mean, **kl}, {}
    for mean, rule in itertools.product(MEANS, ["truncate", "mask"]):
        bounds = {f"{SAMPLER}ClipMin": 0.95, f"{SAMPLER}ClipMax": 1.15}
        yield next(names), {**mean, SAMPLER: f"token_{rule}", **bounds}, {}
    for mean, batch in [
        ({"lossType": "dapo", "normalizer": 23 / 2}, {"batch_num_tokens": 23, "dp_size": 2}),
        ({"lossType": "grpo", "normalizer": 5}, {"global_batch_size": 5}),
    ]:
        yield next(names), mean, {"batch": batch}
    empty = "OpenRLHF's mean over sequences leaves out those without selected tokens; ours counts them unless emptySequences is 'exclude'."
    yield "lengths", {"lossType": "grpo"}, {"differs": empty}
    gate = "At level seq OpenRLHF gates by the geometric mean and keeps each token's own weight; ours takes the product, as TRL and verl."
    yield "steep", {"lossType": "dapo", SAMPLER: "sequence_mask", f"{SAMPLER}ClipMin": 0.9, f"{SAMPLER}ClipMax": 1.2}, {"differs": gate}
    weighted = (
        "With old log-probs OpenRLHF's unbiased gradient is k2's times the ratio (at most 10); ours is straight_through without a weight."
    )
    yield "steep", {"lossType": "dapo", "beta": 0.1, "klGradient": "straight_through"}, {"differs": weighted, "weighted": True}


def case(sets, name, c, extras):
    data, batch, advantages = sets[name], extras.pop("batch", {}), extras.pop("advantages", "advantages")
    weighted = extras.pop("weighted", False)
    level, rule = c.get(SAMPLER, "off_").split("_")
    low = c.get("epsilon", 0.2)
    policy = losses.PolicyLoss(
        clip_eps_low=low,
        clip_eps_high=c.get("epsilonHigh", low),
        dual_clip=c.get("dualClip"),
        token_level_loss=c["lossType"] == "dapo",
        policy_loss_type="gspo" if c.get("importanceSamplingLevel") == "sequence" else "ppo",
        is_correction_level={"sequence": "seq"}.get(level, level),
        is_correction_mode={"truncate": "clip"}.get(rule, "mask"),
        is_correction_threshold=(c.get(f"{SAMPLER}ClipMin", 0.5), c.get(f"{SAMPLER}ClipMax", 5.0)),
    )
    x, a = data["logps"].clone().requires_grad_(True), data[advantages]
    loss, clip_ratio, *_ = policy(
        x, data["oldLogps"], a[:, None].expand_as(x) if a.dim() == 1 else a, data["mask"], data["samplerLogps"], **batch
    )
    if c.get("beta"):
        old = data["oldLogps"] if weighted else None
        kl = utils.compute_approx_kl(
            x, data["refLogps"], old, c["klEstimator"] if "klEstimator" in c else "k3", c.get("klGradient") == "straight_through"
        )
        loss = loss + c["beta"] * losses.aggregate_loss(kl, data["mask"], policy.token_level_loss, **batch)
    loss.backward()
    uses = [advantages, "oldLogps"] + (["samplerLogps"] if SAMPLER in c else []) + (["refLogps"] if c.get("beta") else [])
    title = " ".join([policy.policy_loss_type] + [f"{k}={v}" for k, v in c.items()] + [name, advantages])
    return {
        "name": title,
        "inputs": name,
        "uses": uses,
        "config": c,
        "peer": batch or None,
        **extras,
        "loss": loss.item(),
        "gradLogps": x.grad,
        "metrics": {"region": clip_ratio.item()},
    }


def main():
    sets = input_sets()
    note = "compute_approx_kl rounds to float32: the KL cases are float32 numbers. aggregate_loss divides by counts + 1e-8."
    write(
        "openrlhf_loss.json",
        "openrlhf.models.loss.PolicyLoss, aggregate_loss and models.utils.compute_approx_kl, float64",
        "openrlhf",
        [case(sets, *args) for args in cases()],
        sets_to_json(sets, FIELDS),
        note,
    )
