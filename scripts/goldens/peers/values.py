"""values.json: advantages and returns from values (GAE), value losses, and the pairwise loss of reward models."""

import importlib, itertools

import torch

from . import openrlhf, verl_run
from .common import f32, generator, randn, shell, stub, write

DECAYS = "OpenRLHF takes value and reward of a masked position as 0 and decays through it; verl, which we follow, steps over it."


def openrlhf_maker():
    shell("openrlhf.trainer.ppo_utils")
    stub("ray")
    stub("openrlhf.trainer.ray.launcher", RayActorGroup=None)
    for name in ("openrlhf.trainer.ppo_utils.experience", "openrlhf.trainer.ppo_utils.length_penalty", "openrlhf.utils.seqlen_balancing"):
        stub(name, Experience=None, apply_length_penalties=None, get_minimum_num_micro_batch_size=None, get_seqlen_balanced_partitions=None)
    stub("openrlhf.utils.logging_utils", init_logger=lambda name: None)
    return importlib.import_module("openrlhf.trainer.ppo_utils.experience_maker").RemoteExperienceMaker


def rows(name, mask):
    """Token-sized inputs of a critic."""
    g, mask = generator(name), torch.tensor(mask)
    B, T = mask.shape
    values, old, returns, rewards = (f32(randn(g, B, T)) for _ in range(4))
    return {"shape": [B, T], "mask": mask, "values": values, "oldValues": f32(values + 0.4 * old), "returns": returns, "rewards": rewards}


SETS = {
    "lengths": rows("value lengths", [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
    "holes": rows("value holes", [[1, 1, 0, 1, 1], [0, 1, 1, 0, 1], [1, 0, 0, 0, 1]]),
}


def gae_cases():
    maker = openrlhf_maker()
    for name, (gamma, lam) in itertools.product(SETS, [(1.0, 1.0), (0.99, 0.95), (0.9, 0.0)]):
        s = SETS[name]
        whitened, returns = verl_run.core.compute_gae_advantage_return(s["rewards"] * s["mask"], s["values"], s["mask"], gamma, lam)
        out = {"advantages": (returns - s["values"]) * s["mask"], "whitened": whitened * s["mask"], "returns": returns * s["mask"]}
        yield {"name": f"verl gae {name} {gamma} {lam}", "op": "gae", "inputs": name, "config": {"gamma": gamma, "lambda": lam}, **out}
        advantages, returns = maker.get_advantages_and_returns(None, s["values"], s["rewards"], s["mask"], gamma, lam)
        differs = {} if torch.allclose(advantages * s["mask"], out["advantages"]) else {"differs": DECAYS}
        out = {"advantages": advantages * s["mask"], "returns": returns * s["mask"]}
        yield {
            "name": f"OpenRLHF gae {name} {gamma} {lam}",
            "op": "gae",
            "inputs": name,
            "config": {"gamma": gamma, "lambda": lam},
            **differs,
            **out,
        }


def gradient(s, call):
    x = s["values"].clone().requires_grad_(True)
    loss = call(x)
    loss.backward()
    return {"loss": loss.item(), "gradValues": x.grad}


def value_cases():
    means = [("tokens", "token-mean", True), ("sequences", "seq-mean-token-mean", False)]
    for name, (mean, agg, by_token), clip in itertools.product(SETS, means, [None, 0.2, 0.05]):
        s, title = SETS[name], f"{name} {mean} {clip}"
        config = {"mean": mean, "emptySequences": "exclude", **({"clip": clip} if clip else {})}
        plain = openrlhf.losses.ValueLoss(clip, by_token)
        yield {
            "name": f"OpenRLHF value {title}",
            "op": "valueLoss",
            "inputs": name,
            "config": config,
            **gradient(s, lambda x: plain(x, s["oldValues"], s["returns"], s["mask"])),
        }
        clipped = {}

        def verl(x):
            loss, share = verl_run.core.compute_value_loss(x, s["returns"], s["oldValues"], s["mask"], clip or 1e6, agg)
            clipped["clipRatio"] = share.item()
            return loss

        yield {"name": f"verl value {title}", "op": "valueLoss", "inputs": name, "config": config, **gradient(s, verl), **clipped}


def preference_cases():
    for count, with_margin in itertools.product([1, 5], [False, True]):
        g = generator(f"preference {count}")
        chosen, rejected, margin = (f32(2 * randn(g, count)) for _ in range(3))
        margin = margin.abs()
        c, r = chosen.clone().requires_grad_(True), rejected.clone().requires_grad_(True)
        loss = openrlhf.losses.PairWiseLoss()(c, r, margin if with_margin else None)
        loss.backward()
        given = {"chosen": chosen, "rejected": rejected, **({"margin": margin} if with_margin else {})}
        yield {
            "name": f"OpenRLHF pairwise {count} margin={with_margin}",
            "op": "preferenceLoss",
            **given,
            "loss": loss.item(),
            "gradChosen": c.grad,
            "gradRejected": r.grad,
        }


def main():
    note = (
        "Outputs are 0 behind the mask. verl cannot switch value clipping off: cases without clip ran with cliprange_value 1e6. "
        "whitened: verl's masked_whiten."
    )
    write(
        "values.json",
        "verl: compute_gae_advantage_return, compute_value_loss; openrlhf: get_advantages_and_returns, ValueLoss, PairWiseLoss; float64",
        "verl openrlhf",
        [*gae_cases(), *value_cases(), *preference_cases()],
        SETS,
        note,
    )
