"""verl's core_algos and rollout_corr_helper without verl's __init__ files; only containers and names stand in for what they import."""

import importlib, sys
from types import SimpleNamespace

import torch

from .common import shell, stub


class ActorConfig(SimpleNamespace):
    """verl's is a dataclass with the same fields; it computes nothing."""

    def get(self, name, default=None):
        return getattr(self, name, default)


def load():
    for name in ("verl.utils", "verl.trainer.ppo", "verl.workers"):
        shell(name)
    stub("tensordict", TensorDict=None)
    stub("verl.protocol", DataProto=None)
    stub("verl.workers.config", ActorConfig=ActorConfig)
    stub("verl.workers.config.actor", PolicyLossConfig=None)
    groupwise = importlib.import_module("verl.utils.groupwise")
    sys.modules["verl.utils"].as_torch_index, sys.modules["verl.utils"].group_mean_std = groupwise.as_torch_index, groupwise.group_mean_std
    return importlib.import_module("verl.trainer.ppo.core_algos"), importlib.import_module("verl.trainer.ppo.rollout_corr_helper")


core, corrections = load()
# verl's name of each of our losses beside PPO's clip
MODES = {"sapo": "sapo", "gmpo": "geo_mean", "cispo": "cispo", "reinforce": "gpg", "clip_cov": "clip_cov", "kl_cov": "kl_cov"}
NO_CLIP = 1e6  # as clip_ratio_c: verl cannot switch dual clip off


def mode(c):
    if c["lossType"] == "dppo":
        return f"dppo_{c.get('dppoDivergence', 'tv')}"
    return MODES.get(c["lossType"], "gspo" if c.get("importanceSamplingLevel") == "sequence_token" else "vanilla")


def actor(c, batch):
    low = c.get("epsilon", 0.4 if c["lossType"] == "gmpo" else 0.2)
    high = c.get("epsilonHigh", low)
    if c["lossType"] == "cispo":
        low, high = batch.pop("clip_ratio_low", 1.0), high - 1
    return ActorConfig(
        clip_ratio=low,
        clip_ratio_low=low,
        clip_ratio_high=high,
        clip_ratio_c=c.get("dppoRatioMax", 20.0) if c["lossType"] == "dppo" else c.get("dualClip", NO_CLIP),
        tau_pos=c.get("sapoTemperaturePos", 1.0),
        tau_neg=c.get("sapoTemperatureNeg", 1.05),
        global_batch_info=batch,
        policy_loss=SimpleNamespace(
            clip_cov_ratio=c.get("clipCovRatio"),
            clip_cov_lb=c.get("clipCovLow"),
            clip_cov_ub=c.get("clipCovHigh"),
            kl_cov_ratio=c.get("klCovRatio"),
            ppo_kl_coef=c.get("klCovCoef"),
        ),
    )


def rollout_weights(c, data, old):
    """verl's own weights of the sampler correction: token or sequence; one bound (truncate) or lower_upper (mask)."""
    kind = c.get("samplerImportanceSampling")
    if kind is None:
        return None
    level, rule = kind.split("_")
    upper = c.get("samplerImportanceSamplingClipMax", 3.0)
    threshold = upper if rule == "truncate" else f"{c['samplerImportanceSamplingClipMin']}_{upper}"
    ratio = old - torch.nan_to_num(data["samplerLogps"], nan=0.0)
    return corrections.compute_rollout_correction_weights(ratio, data["mask"], level, threshold)[0]


def loss(c, data, uses, advantages, agg, batch):
    """(loss, gradient by the log-probs, metrics). `batch`: verl's global_batch_info."""
    x = data["logps"].clone().requires_grad_(True)
    old = data["oldLogps"] if "oldLogps" in uses else x.detach()
    a = data[advantages]
    a = a[:, None].expand_as(x).clone() if a.dim() == 1 else a
    config = actor(c, dict(batch))
    value, metrics = core.get_policy_loss_fn(mode(c))(
        old_log_prob=old,
        log_prob=x,
        advantages=a,
        response_mask=data["mask"],
        loss_agg_mode=agg,
        config=config,
        rollout_is_weights=rollout_weights(c, data, old),
    )
    if c.get("beta"):
        kind = c.get("klEstimator", "k3") + ("+" if c.get("klGradient") == "straight_through" else "")
        kl = core.kl_penalty(logprob=x, ref_logprob=data["refLogps"], kl_penalty=kind)
        value = value + c["beta"] * core.agg_loss(loss_mat=kl, loss_mask=data["mask"], loss_agg_mode=agg, **config.global_batch_info)
    value.backward()
    found = {}
    if mode(c) in ("vanilla", "gspo", "dppo_tv", "dppo_kl"):  # the others' pg_clipfrac counts something else than ours
        found["region"] = metrics["actor/pg_clipfrac"]
    return value.item(), x.grad, found
