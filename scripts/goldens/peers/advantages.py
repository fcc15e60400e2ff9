"""advantages.json: rewards into advantages, by TRL (one or several reward functions) and verl (GRPO, RLOO, Pass@k, GDPO)."""

import itertools, math
from types import SimpleNamespace

import numpy, torch

from . import trl_run, verl_run
from .common import f32, generator, randn, write

NAN = math.nan
SINGLE = "verl leaves a group of one completion its reward as advantage; ours is 0, since the group's mean is that reward."
GDPO = "verl's GDPO whitens over tokens (eps 1e-8 under the root): long completions weigh more; ours over completions, as TRL's."


def rewards_of(name, *shape):
    return f32(randn(generator(name), *shape))


def trl_cases():
    """TRL's scale_rewards and multi_objective_aggregation; its eps is 1e-4."""
    constant = f32(torch.tensor([0.3, 0.3, 0.3, 0.3, 1.0, -1.0, 0.25, 2.0], dtype=torch.float64))
    some = torch.tensor([1.0, NAN, 0.0, 0.5, NAN, NAN, 2.0, NAN], dtype=torch.float64)
    for scale, (title, r, generations) in itertools.product(
        ["group", "batch", "none"],
        [
            ("random", rewards_of("one", 12), 4),
            ("a constant group", constant, 4),
            ("binary", (rewards_of("two", 12) > 0).double(), 6),
            ("NaN", some, 4),
        ],
    ):
        config = {"scaleRewards": scale, **({"nonFinite": "exclude"} if title == "NaN" else {})}
        made = trl_run.advantages(r[:, None], torch.ones(1, dtype=torch.float64), generations, scale, "sum_then_normalize")
        yield {
            "name": f"TRL {scale} {title}",
            "op": "groupAdvantages",
            "rewards": r,
            "numGenerations": generations,
            "config": config,
            "advantages": made,
        }


def trl_multi_cases():
    holes = rewards_of("three", 8, 3)
    holes[1, 0], holes[2, :], holes[5, 2], holes[4, 1] = NAN, NAN, NAN, NAN
    sets = [
        ("random", rewards_of("four", 8, 2), [1.0, 0.5]),
        ("three functions", rewards_of("five", 12, 3), [0.2, 1.0, 3.0]),
        ("NaN", holes, [1.0, 2.0, 0.5]),
    ]
    for (title, r, weights), generations in itertools.product(sets, [2, 4]):
        ways = [("sum_then_normalize", scale) for scale in ("group", "batch", "none")] + [("normalize_then_sum", "group")]
        for aggregation, scale in ways:
            config = {"aggregation": aggregation, "scaleRewards": scale, "weights": weights}
            made = trl_run.advantages(r, f32(torch.tensor(weights, dtype=torch.float64)), generations, scale, aggregation)
            rows = {"rewards": r, "completions": len(r), "functions": r.shape[1]}
            yield {
                "name": f"TRL {aggregation} {scale} {title} {generations}",
                "op": "multiRewardAdvantages",
                **rows,
                "numGenerations": generations,
                "config": config,
                "advantages": made,
            }


def per_completion(r, offsets, call):
    """verl's advantages, which are per token: one token a completion. `index`: the prompt of each."""
    index = numpy.repeat(numpy.arange(len(offsets) - 1), numpy.diff(offsets))
    return call(token_level_rewards=r[:, None].clone(), response_mask=torch.ones(len(r), 1, dtype=torch.float64), index=index)[0][:, 0]


def verl_cases():
    core = verl_run.core
    groups = [("even", [0, 4, 8, 12]), ("uneven", [0, 2, 7, 12]), ("one alone", [0, 1, 6, 12])]
    for (title, offsets), norm in itertools.product(groups, [True, False]):
        r = rewards_of(f"verl {title}", 12)
        config = {"scaleRewards": "group" if norm else "none", "eps": 1e-6}
        differs = {"differs": SINGLE} if title == "one alone" else {}
        rows = {"rewards": r, "groupOffsets": offsets}
        made = per_completion(r, offsets, lambda **k: core.compute_grpo_outcome_advantage(**k, norm_adv_by_std_in_grpo=norm))
        yield {"name": f"verl grpo {title} norm={norm}", "op": "groupAdvantages", **rows, "config": config, **differs, "advantages": made}
        if title != "one alone":
            made = per_completion(
                r, offsets, lambda **k: core.compute_grpo_passk_outcome_advantage(**k, config={"norm_adv_by_std_in_grpo": norm})
            )
            yield {"name": f"verl pass@k {title} norm={norm}", "op": "passAtKAdvantages", **rows, "config": config, "advantages": made}
    for title, offsets in groups:
        r = rewards_of(f"verl {title}", 12)
        config = {"baseline": "leave_one_out", "scaleRewards": "none"}
        differs = {"differs": SINGLE} if title == "one alone" else {}
        made = per_completion(r, offsets, core.compute_rloo_outcome_advantage)
        yield {
            "name": f"verl rloo {title}",
            "op": "groupAdvantages",
            "rewards": r,
            "groupOffsets": offsets,
            "config": config,
            **differs,
            "advantages": made,
        }
    yield gdpo(core)


def gdpo(core):
    r, lengths, offsets, weights = rewards_of("gdpo", 8, 2), [3, 1, 2, 3, 1, 1, 2, 3], [0, 4, 8], [1.0, 0.5]
    mask = torch.tensor([[int(t < n) for t in range(3)] for n in lengths])
    prompt, keys = torch.ones(8, 1, dtype=torch.long), ["a", "b"]
    made = core.compute_gdpo_outcome_advantage(
        token_level_rewards=torch.zeros(8, 3, dtype=torch.float64),
        response_mask=mask,
        index=numpy.repeat([0, 1], 4),
        config={"gdpo_reward_keys": keys, "gdpo_reward_weights": weights},
        non_tensor_batch={k: r[:, i].numpy() for i, k in enumerate(keys)},
        batch={"prompts": prompt, "attention_mask": torch.cat([prompt, mask], 1)},
    )[0][:, 0]
    rows = {"rewards": r, "completions": 8, "functions": 2, "lengths": lengths, "numGenerations": 4}
    config = {"aggregation": "normalize_then_sum", "scaleRewards": "group", "weights": weights}
    return {"name": "verl gdpo", "op": "multiRewardAdvantages", **rows, "config": config, "differs": GDPO, "advantages": made}


def main():
    cases = [*trl_cases(), *trl_multi_cases(), *verl_cases()]
    write(
        "advantages.json",
        "GRPOTrainer._generate_and_score_completions; verl.trainer.ppo.core_algos.compute_*_outcome_advantage; float64 (GDPO: float32)",
        "trl verl",
        cases,
        note="rewards of several functions: one row a completion",
    )
