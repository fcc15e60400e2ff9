"""verl_loss.json: verl's policy losses, of log-probs; and their KL estimates and aggregations."""

import itertools

import torch

from . import verl_run
from .common import SEED, input_set, sets_to_json, write

FIELDS = ["mask", "advantages", "tokenAdvantages", "logps", "oldLogps", "refLogps", "samplerLogps"]
EXCLUDE = {"emptySequences": "exclude"}
# (our way to say it, verl's loss_agg_mode, verl's global_batch_info)
AGGREGATIONS = [
    ({"lossType": "bnpo"}, "token-mean", {}),
    ({"lossType": "grpo", **EXCLUDE}, "seq-mean-token-mean", {}),
    ({"lossType": "dr_grpo", "maxCompletionLength": 8, **EXCLUDE}, "seq-mean-token-sum-norm", {"loss_scale_factor": 8}),
    ({"lossType": "dr_grpo", "maxCompletionLength": 1, **EXCLUDE}, "seq-mean-token-sum", {}),
    ({"lossType": "dapo", "normalizer": 1}, "token-sum", {}),
    ({"lossType": "dapo", "normalizer": 23 / 2}, "token-mean", {"dp_size": 2, "batch_num_tokens": 23}),
    ({"lossType": "grpo", "normalizer": 6 / 2}, "seq-mean-token-mean", {"dp_size": 2, "global_batch_size": 6}),
]
TOKEN_MEAN, SEQ_MEAN = AGGREGATIONS[0], AGGREGATIONS[1]
GSPO = {"importanceSamplingLevel": "sequence_token", "epsilon": 0.05, "epsilonHigh": 0.08}
SAMPLER = "samplerImportanceSampling"
NO_BIAS = {"useBiasCorrectionKl": False}


def input_sets():
    sets = {
        "lengths": input_set(
            "verl lengths", [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], 5, [1.3, -0.7, 0.4, -1.0]
        ),
        "holes": input_set("verl holes", [[1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 1, 0]], 5, [-0.9, 0.6, 1.6], shift=0.8),
        "steep": input_set("verl steep", [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]], 5, [1.8, -1.4, -0.3], shift=1.5, spread=3.0),
        "extreme": input_set("verl extreme", [[1, 1, 1, 1], [1, 1, 0, 0]], 5, [-1.2, 0.5]),
    }
    for t, (old, ref) in enumerate([(-24.0, -0.25), (-60.0, 4.0), (-0.25, -30.0)]):  # log-ratios over 20, far references
        sets["extreme"]["oldLogps"][0, t], sets["extreme"]["refLogps"][0, t] = old, ref
    sets["extreme"]["logps"][0, :3] = -0.5
    sets["holes"]["tokenAdvantages"][0, 1] = 0.0
    return sets


def clip_cases():
    turn = itertools.cycle(["lengths", "holes", "steep"])
    for (ours, agg, batch), dual in itertools.product(AGGREGATIONS, [{}, {"dualClip": 1.5}, {"dualClip": 3.0}]):
        yield next(turn), {**ours, "epsilonHigh": 0.28, **dual}, agg, batch, {}
    for (ours, agg, batch), (kind, gradient) in itertools.product(
        AGGREGATIONS[:3], [("k1", 0), ("k2", 0), ("k3", 0), ("k1", 1), ("k3", 1)]
    ):
        c = {**ours, "beta": 0.1, "klEstimator": kind, **({"klGradient": "straight_through"} if gradient else NO_BIAS)}
        yield next(turn), c, agg, batch, {}
    for (ours, agg, batch), (level, low, high) in itertools.product([TOKEN_MEAN, SEQ_MEAN], [("token", 0.9, 1.15), ("sequence", 0.6, 1.5)]):
        yield next(turn), {**ours, SAMPLER: f"{level}_truncate", f"{SAMPLER}ClipMax": 1.1}, agg, batch, {}
        yield next(turn), {
            **ours,
            SAMPLER: f"{level}_mask",
            f"{SAMPLER}ClipMin": low,
            f"{SAMPLER}ClipMax": high,
            "dualClip": 2.0,
        }, agg, batch, {}
    for ours, agg, batch in AGGREGATIONS[:3]:
        yield next(turn), ours, agg, batch, {"uses": []}
        yield next(turn), ours, agg, batch, {"advantages": "tokenAdvantages"}


def gspo_cases():
    turn = itertools.cycle(["lengths", "holes", "steep"])
    for ours, agg, batch in AGGREGATIONS:
        yield next(turn), {**ours, **GSPO}, agg, batch, {}
        yield next(turn), {**ours, **GSPO, "beta": 0.2, **NO_BIAS}, agg, batch, {"advantages": "tokenAdvantages"}
    yield "holes", {**SEQ_MEAN[0], **GSPO}, *SEQ_MEAN[1:], {"uses": []}


def other_cases():
    names, loss = ["lengths", "holes", "steep"], lambda kind, **more: {"lossType": kind, **more}
    for name, (pos, neg) in itertools.product(names, [(1.0, 1.05), (0.4, 2.5)]):
        yield name, loss("sapo", sapoTemperaturePos=pos, sapoTemperatureNeg=neg, **EXCLUDE), *SEQ_MEAN[1:], {}
    for name, advantages in itertools.product(names, ["advantages", "tokenAdvantages"]):
        yield name, loss("reinforce"), *TOKEN_MEAN[1:], {"advantages": advantages}
        yield name, loss("cispo", epsilonHigh=1.28), *TOKEN_MEAN[1:], {"advantages": advantages}
        for divergence, low in [("tv", 0.1), ("kl", 0.05)]:
            yield name, loss("dppo", dppoDivergence=divergence, epsilon=low, epsilonHigh=0.15, dppoRatioMax=1.5), *TOKEN_MEAN[1:], {
                "advantages": advantages
            }
    for name, low, high in [("lengths", 0.4, 0.4), ("holes", 0.1, 0.3), ("steep", 0.4, 0.2)]:
        yield name, loss("gmpo", epsilon=low, epsilonHigh=high), *TOKEN_MEAN[1:], {}
    yield "steep", loss("gmpo"), *TOKEN_MEAN[1:], {"advantages": "tokenAdvantages"}
    for name, (low, high, share) in itertools.product(names, [(0.1, 2.0, 1.0), (-0.5, 0.8, 1.0), (50.0, 60.0, 0.1)]):
        yield name, loss("clip_cov", clipCovLow=low, clipCovHigh=high, clipCovRatio=share), *TOKEN_MEAN[1:], {}
    for name, (share, coef) in itertools.product(names, [(2e-4, 1.0), (0.35, 0.1), (1.0, 1.0)]):
        yield name, loss("kl_cov", klCovRatio=share, klCovCoef=coef), *TOKEN_MEAN[1:], {}
    yield "steep", loss("kl_cov", klCovRatio=0.5, beta=0.1, **NO_BIAS), *TOKEN_MEAN[1:], {}
    yield "holes", loss("clip_cov", clipCovLow=0.05, clipCovRatio=1.0, beta=0.1, klGradient="straight_through"), *TOKEN_MEAN[1:], {
        "advantages": "tokenAdvantages"
    }


def differing_cases():
    def differs(text, **more):
        return {"differs": text, **more}

    clamped = "verl clamps the log-ratio to [-20, 20] without derivative beyond; ours saturates at 40 from above only."
    yield "extreme", {"lossType": "bnpo"}, *TOKEN_MEAN[1:], differs(clamped)
    yield "extreme", {**SEQ_MEAN[0], **GSPO}, *SEQ_MEAN[1:], differs("verl clamps GSPO's log-ratio at 10; ours saturates at 40.")
    k3 = "verl clamps ref - logp to [-20, 20] and k3 to [-10, 10]; ours saturates ref - logp at 40 from above only."
    yield "extreme", {"lossType": "bnpo", "beta": 0.1, **NO_BIAS}, *TOKEN_MEAN[1:], {"uses": [], **differs(k3)}
    for kind, agg in [("grpo", "seq-mean-token-mean"), ("sapo", "seq-mean-token-mean")]:
        text = "verl's mean over sequences leaves out those without selected tokens; ours counts them unless emptySequences is 'exclude'."
        yield "lengths", {"lossType": kind}, agg, {}, differs(text)
    low = "verl clamps CISPO's weight from below too, at 1 - clip_ratio_low (here 0.8); ours has the upper bound only, as in TRL."
    yield "steep", {"lossType": "cispo", "epsilonHigh": 1.28}, "token-mean", {"clip_ratio_low": 0.2}, differs(low)
    weights = (
        "verl's GMPO multiplies a sequence's loss by the geometric mean of the sampler's weights; ours multiplies each token by its own."
    )
    yield "holes", {"lossType": "gmpo", "samplerImportanceSampling": "token_truncate"}, *TOKEN_MEAN[1:], differs(weights)
    zero = "With an advantage per token, verl's GMPO takes the log-ratio of a token with advantage 0 as 0; ours clips it from below."
    yield "holes", {"lossType": "gmpo"}, *TOKEN_MEAN[1:], {"advantages": "tokenAdvantages", **differs(zero)}
    drawn = "With more tokens to choose from than clipCovRatio allows, verl draws by torch.randperm; ours takes the smallest hashes."
    yield "lengths", {"lossType": "clip_cov", "clipCovLow": -9.0, "clipCovHigh": 9.0, "clipCovRatio": 0.3}, *TOKEN_MEAN[1:], differs(drawn)


def case(sets, name, c, agg, batch, extras):
    uses, advantages = extras.pop("uses", ["oldLogps"]), extras.pop("advantages", "advantages")
    if "samplerImportanceSampling" in c:
        uses = uses + ["samplerLogps"]
    loss, gradient, metrics = verl_run.loss(c, sets[name], uses, advantages, agg, batch)
    title = " ".join([verl_run.mode(c), agg] + [f"{k}={v}" for k, v in c.items()] + [name, advantages] + (uses or ["on policy"]))
    uses = [advantages] + uses + (["refLogps"] if c.get("beta") else [])
    peer = {"loss_agg_mode": agg, **batch}
    return {
        "name": title,
        "inputs": name,
        "uses": uses,
        "config": c,
        "peer": peer,
        **extras,
        "loss": loss,
        "gradLogps": gradient,
        "metrics": metrics,
    }


def main():
    torch.manual_seed(SEED)  # clip_cov draws
    sets = input_sets()
    cases = [case(sets, *args) for part in (clip_cases, gspo_cases, other_cases, differing_cases) for args in part()]
    note = "verl cannot switch dual clip off: cases without dualClip ran with clip_ratio_c 1e6. Its sums divide by counts + 1e-8."
    write(
        "verl_loss.json",
        "core_algos: get_policy_loss_fn, kl_penalty, agg_loss; rollout_corr_helper.compute_rollout_correction_weights; float64",
        "verl",
        cases,
        sets_to_json(sets, FIELDS),
        note,
    )
