"""The cases that TRL's loss is run on: (input set, our configuration, batch fields, extras), about 300."""

import itertools, random

from .common import SEED, input_set

CLIP = ["grpo", "bnpo", "dr_grpo", "dapo"]
TYPES = CLIP + ["luspo", "cispo", "sapo", "vespo"]
CLIPPED = CLIP + ["luspo", "gmpo"]
MODES = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
BETAS = [{}, {"beta": 0.1}, {"beta": 0.1, "useBiasCorrectionKl": False}]


def input_sets():
    return {
        # Lengths 5, 3, 1 and 0
        "lengths": input_set("lengths", [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], 5, [1.3, -0.7, 0.4, -1.0]),
        # A tool's tokens inside; one advantage 0; two tokens that the sampler could not score
        "holes": input_set(
            "holes", [[1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 1, 0]], 6, [-0.9, 0.0, 1.6], unknown=[(0, 1), (2, 3)]
        ),
        # Two of four completions truncated; everything further from the old policy
        "far": input_set(
            "far", [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], 5, [0.8, -1.1, -0.5, 0.6], truncated=[0, 1, 0, 1], shift=0.8
        ),
    }


def kind(loss_type, level="token"):
    """What a loss type needs beside its name."""
    c = {"lossType": loss_type, **({"importanceSamplingLevel": level} if level != "token" else {})}
    if loss_type == "dr_grpo":
        c["maxCompletionLength"] = 8
    if loss_type == "cispo":
        c["epsilonHigh"] = 1.4
    if loss_type == "luspo":
        c["importanceSamplingLevel"] = "sequence"
    return c


def levels(loss_type):
    return {"luspo": ["sequence"], "vespo": ["token"], "gmpo": ["token"]}.get(loss_type, ["token", "sequence"])


def core():
    """lossType x level x old x beta and its bias correction x delta, with clip bounds, temperature and input set in turn."""
    turn = itertools.cycle([("lengths", 0.18, 0.24, 1.0), ("holes", 0.12, 0.09, 0.7), ("far", 0.15, 0.12, 1.6)])
    for loss_type, old, beta in itertools.product(TYPES + ["gmpo"], [True, False], BETAS):
        for level, delta in itertools.product(levels(loss_type), [None, 1.1] if loss_type in CLIP + ["luspo"] else [None]):
            name, low, high, temperature = next(turn)
            c = {**kind(loss_type, level), **beta, "temperature": temperature}
            if loss_type in CLIPPED:
                narrow = 1 if level == "token" else 3  # means of log-ratios are smaller
                c.update(epsilon=low / narrow, epsilonHigh=high / narrow)
            yield name, {**c, **({"delta": delta} if delta else {})}, ["oldLogps"] if old else [], {}


def shapes():
    """Options of single loss types."""
    for name, pos, neg in [("lengths", 2.0, 0.5), ("far", 0.3, 3.0)]:
        yield name, {**kind("sapo"), "sapoTemperaturePos": pos, "sapoTemperatureNeg": neg}, ["oldLogps"], {}
    for name, k_pos, l_pos, k_neg, l_neg in [("lengths", 1.0, 0.5, 2.5, 0.0), ("far", 0.0, 1.0, 1.0, 4.0), ("holes", 3.0, 2.0, 0.5, 1.5)]:
        c = {"vespoKPos": k_pos, "vespoLambdaPos": l_pos, "vespoKNeg": k_neg, "vespoLambdaNeg": l_neg}
        yield name, {**kind("vespo"), **c}, ["oldLogps"], {}
    for name, high in [("lengths", 0.9), ("holes", 5.0)]:
        yield name, {**kind("cispo"), "epsilonHigh": high}, ["oldLogps"], {}
    for name, low, high in [("lengths", 0.1, 0.3), ("far", 0.4, 0.05)]:
        yield name, {**kind("gmpo"), "epsilon": low, "epsilonHigh": high}, ["oldLogps"], {}


def masks():
    """The off-policy mask, the top-entropy mask and the entropy bonus, each by loss type."""
    for loss_type, (name, uses) in itertools.product(
        TYPES, [("far", ["oldLogps"]), ("lengths", ["oldLogps", "samplerLogps"]), ("holes", ["samplerLogps"])]
    ):
        yield name, {**kind(loss_type), "offPolicyMaskThreshold": {"far": 0.2, "lengths": 0.1, "holes": -0.2}[name]}, uses, {}
    for loss_type in CLIP + ["cispo", "sapo"]:
        yield "far", {**kind(loss_type, "sequence"), "offPolicyMaskThreshold": 0.2}, ["oldLogps"], {}
    for loss_type, (name, quantile) in itertools.product(TYPES + ["gmpo"], [("lengths", 0.35), ("far", 0.8), ("holes", 0.55)]):
        yield name, {**kind(loss_type), "topEntropyQuantile": quantile, **({"beta": 0.1} if name == "far" else {})}, ["oldLogps"], {}
    for name, quantile in [
        ("lengths", 0.5),
        ("lengths", 0.25),
        ("holes", 0.5),
    ]:  # the rank is an integer: the threshold is an entropy of the batch
        yield name, {**kind("grpo"), "topEntropyQuantile": quantile}, ["oldLogps"], {}
    for loss_type, (name, quantile, temperature) in itertools.product(TYPES, [("lengths", 1.0, 1.0), ("far", 0.7, 0.7)]):
        c = {**kind(loss_type), "entropyCoef": 0.05 if name == "lengths" else -0.2, "temperature": temperature}
        yield name, {**c, **({"topEntropyQuantile": quantile} if quantile < 1 else {})}, ["oldLogps"], {}


def sampler():
    """The sampler's importance ratio in four modes, by loss type; NaN log-probs in "holes"."""
    names = itertools.cycle(["lengths", "holes", "far"])
    for loss_type, mode in itertools.product(TYPES, MODES):
        if loss_type == "vespo" and mode.startswith("sequence"):
            continue
        for old, bounds in [(True, {}), (True, {"ClipMin": 0.85, "ClipMax": 1.1}), (False, {"ClipMax": 1.2})]:
            c = {**kind(loss_type), "samplerImportanceSampling": mode, **{f"samplerImportanceSampling{k}": v for k, v in bounds.items()}}
            yield next(names), c, ["samplerLogps"] + (["oldLogps"] if old else []), {}


def selection():
    """Truncated completions, advantages per token, and denominators of the whole optimizer step."""
    for loss_type in TYPES + ["gmpo"]:
        yield "far", {**kind(loss_type), "maskTruncatedCompletions": True, "beta": 0.1}, ["oldLogps", "truncated"], {}
    for loss_type, name in itertools.product(TYPES, ["holes"]):
        yield name, kind(loss_type), ["oldLogps"], {"advantages": "tokenAdvantages"}
    yield "far", {**kind("dapo"), "offPolicyMaskThreshold": 0.0}, ["oldLogps"], {"advantages": "tokenAdvantages"}
    for loss_type in ["dapo", "cispo", "vespo"]:
        yield "lengths", {**kind(loss_type), "normalizer": 23}, ["oldLogps"], {"items": 23}
    for loss_type, count in [("grpo", 4), ("sapo", 4), ("luspo", 4), ("dr_grpo", 32), ("gmpo", 4)]:
        yield "far", {**kind(loss_type), "normalizer": 3 * count}, ["oldLogps"], {"accumulation": 3}
    yield "holes", {**kind("bnpo"), "normalizer": 20, "entropyCoef": 0.1, "entropyNormalizer": 20}, [], {"accumulation": 2}


def together():
    """Everything at once, drawn at random."""
    r = random.Random(SEED)
    for _ in range(40):
        loss_type = r.choice(TYPES)
        c, uses = {**kind(loss_type, r.choice(levels(loss_type)))}, []
        if r.random() < 0.6:
            uses.append("oldLogps")
        if r.random() < 0.5:
            c.update(beta=r.choice([0.04, 0.5]), useBiasCorrectionKl=r.random() < 0.5)
        if r.random() < 0.5:
            c["samplerImportanceSampling"] = r.choice(MODES[: 2 if loss_type == "vespo" else 4])
            c["samplerImportanceSamplingClipMax"] = r.choice([1.05, 1.5, 3.0])
            uses.append("samplerLogps")
        if r.random() < 0.4:
            c["offPolicyMaskThreshold"] = r.choice([-0.1, 0.1, 0.3])
        if r.random() < 0.4:
            c["topEntropyQuantile"] = r.choice([0.3, 0.6, 0.85])
        if r.random() < 0.4:
            c["entropyCoef"] = r.choice([0.01, -0.1])
        if r.random() < 0.4 and loss_type in CLIP + ["luspo"]:
            c["delta"] = r.choice([1.25, 1.6])
        name = r.choice(["lengths", "holes", "far"])
        if name == "far" and r.random() < 0.5:
            c["maskTruncatedCompletions"] = True
            uses.append("truncated")
        yield name, {**c, "temperature": r.choice([1.0, 0.8, 1.3])}, uses, {}
