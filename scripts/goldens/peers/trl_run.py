"""TRL's GRPOTrainer as it is, up to the model: a GRPOTrainer object without its __init__, whose log-probs come from given logits.

What runs is TRL's own code from the completions on: _generate_and_score_completions (padding, tool and truncation masks, the sampler's
importance ratio, rewards into advantages) and then _compute_loss. Replaced are generation, the reward functions and the model's forward
pass; the log-probs and entropies are formed by TRL's own selective_log_softmax and entropy_from_logits.
"""

from collections import defaultdict, deque
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from trl import GRPOTrainer
from trl.experimental.gmpo import GMPOTrainer
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from .common import f32

OLD, REF, CURRENT = "old", "ref", "current"  # in place of models
METRICS = {
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/low_mean": "low",
    "clip_ratio/high_mean": "high",
    "clip_ratio/region_mean": "region",
    "cispo_clip_ratio": "high",
}


class Model(SimpleNamespace):
    training, is_gradient_checkpointing = True, False


def trainer(c, kind=GRPOTrainer):
    """`c`: our configuration; every default is docs/losses.md's, which is TRL's."""
    me = object.__new__(kind)
    sampled = "samplerImportanceSampling" in c
    me.accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        process_index=0,
        num_processes=1,
        sync_gradients=True,
        gather=lambda x: x.reshape(-1),
        reduce=lambda x, **_: x,
        pad_across_processes=lambda x, **_: x,
        gather_for_metrics=lambda x: x,
        autocast=nullcontext,
    )
    me.args = SimpleNamespace(
        delta=c.get("delta"),
        use_bias_correction_kl=c.get("useBiasCorrectionKl", True),
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        per_device_train_batch_size=None,
        gradient_checkpointing_kwargs=None,
        sapo_temperature_pos=c.get("sapoTemperaturePos", 1.0),
        sapo_temperature_neg=c.get("sapoTemperatureNeg", 1.05),
        vespo_k_pos=c.get("vespoKPos", 2.0),
        vespo_k_neg=c.get("vespoKNeg", 3.0),
        vespo_lambda_pos=c.get("vespoLambdaPos", 3.0),
        vespo_lambda_neg=c.get("vespoLambdaNeg", 2.0),
    )
    epsilon = c.get("epsilon", 0.4 if c.get("lossType") == "gmpo" else 0.2)
    for name, value in {
        "model": Model(name=OLD),
        "ref_model": REF,
        "loss_type": c.get("lossType"),
        "importance_sampling_level": c.get("importanceSamplingLevel", "token"),
        "epsilon_low": epsilon,
        "epsilon_high": c.get("epsilonHigh", epsilon),
        "beta": c.get("beta", 0.0),
        "max_completion_length": c.get("maxCompletionLength"),
        "top_entropy_quantile": c.get("topEntropyQuantile", 1.0),
        "off_policy_mask_threshold": c.get("offPolicyMaskThreshold"),
        "use_vllm": sampled,
        "vllm_importance_sampling_correction": sampled,
        "vllm_importance_sampling_mode": c.get("samplerImportanceSampling"),
        "vllm_importance_sampling_clip_min": c.get("samplerImportanceSamplingClipMin"),
        "vllm_importance_sampling_clip_max": c.get("samplerImportanceSamplingClipMax", 3.0),
        "entropy_coef": c.get("entropyCoef", 0.0),
        "_entropy_bonus_enabled": bool(c.get("entropyCoef")),
        "use_adaptive_entropy": False,
        "mask_truncated_completions": c.get("maskTruncatedCompletions", False),
        "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1,
        "environment_factories": None,
        "environments": None,
        "tools": None,
        "_is_vlm": False,
        "_tokenizer": SimpleNamespace(pad_token_id=-1),
        "pad_to_multiple_of": None,
        "num_generations": 1,
        "scale_rewards": "group",
        "multi_objective_aggregation": "sum_then_normalize",
        "reward_weights": torch.ones(1),
        "reward_funcs": [None],
        "reward_func_names": ["r"],
        "_metrics": {"train": defaultdict(list), "eval": defaultdict(list)},
        "_pending_extra_logs": {},
        "_pending_metrics": {},
        "log_multimodal": False,
        "_logs": {"prompt": deque(), "completion": deque(), "rewards": defaultdict(deque), "advantages": deque(), "extra": {}},
    }.items():
        setattr(me, name, value)
    return me


def generated(data, sampled):
    """What TRL's _generate returns: a row keeps its length up to the last selected position; holes before it are a tool's tokens."""
    rows, lengths = data["mask"].tolist(), [max([t + 1 for t, m in enumerate(row) if m], default=1) for row in data["mask"].tolist()]
    ids = [row[:n] for row, n in zip(data["targets"].tolist(), lengths)]
    tools = [row[:n] for row, n in zip(rows, lengths)]
    logps = [[None if x != x else x for x in row[:n]] for row, n in zip(data["samplerLogps"].tolist(), lengths)]
    return [[0]] * len(ids), ids, tools, [""] * len(ids), logps if sampled else None, {}, None, None


def loss(c, data, uses, advantages="advantages", accumulation=1, items=None):
    """(loss, gradient by the logits, metrics) of one case. `uses`: which of oldLogps, samplerLogps are there.

    `accumulation`: TRL's gradient accumulation steps. `items`: num_items_in_batch, the tokens of the whole optimizer step.
    TRL takes the entropy quantile in float32: the entropies it is given then are float32 numbers, or rounding would decide at the
    threshold.
    """
    me = trainer(c, GMPOTrainer if c["lossType"] == "gmpo" else GRPOTrainer)
    logits = data["logits"].clone().requires_grad_(True)
    T = data["mask"].shape[1]
    me.num_iterations = 2 if "oldLogps" in uses else 1  # more than one: the sampling policy is an older one, so its log-probs are computed
    me.current_gradient_accumulation_steps = accumulation
    me.eos_token_ids = [data["logits"].shape[-1] - 1]

    def logps(model, input_ids, attention_mask, logits_to_keep, compute_entropy=False, **_):
        scaled = logits / c.get("temperature", 1.0)
        if model == REF:
            return data["refLogps"][:, :logits_to_keep], None, None
        if model != CURRENT and "oldLogps" in uses:
            return data["oldLogps"][:, :logits_to_keep], None, None
        x = selective_log_softmax(scaled[:, :logits_to_keep], data["targets"][:, :logits_to_keep])
        entropies = entropy_from_logits(scaled)[:, :logits_to_keep] if compute_entropy else None
        if c.get("topEntropyQuantile", 1.0) < 1 and compute_entropy:
            entropies = f32(entropies)
        return x, entropies, None

    me._get_per_token_logps_and_entropies = logps
    me._generate = lambda prompts: generated(data, "samplerLogps" in uses)
    me._calculate_rewards = lambda inputs, *_: torch.zeros(len(inputs), 1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # TRL forms tensors of the sampler's log-probs from lists
    inputs = me._generate_and_score_completions([{"prompt": ""}] * len(data["mask"]))
    width = inputs["completion_ids"].shape[1]
    selected = inputs["completion_mask"] * inputs["tool_mask"]
    truncated = data["truncated"].unsqueeze(1) if c.get("maskTruncatedCompletions") else 0
    assert width == T and torch.equal(selected, data["mask"] * (1 - truncated)), "the pipeline's mask is not the input set's"
    inputs["advantages"] = data[advantages]
    if items is not None:
        inputs["num_items_in_batch"] = torch.tensor(items)
    me._metrics["train"].clear()
    value = me._compute_loss(CURRENT, inputs)
    torch.set_default_dtype(before)
    value.backward()
    metrics = {ours: float(me._metrics["train"][theirs][-1]) for theirs, ours in METRICS.items() if me._metrics["train"][theirs]}
    return value.item(), logits.grad, metrics


def advantages(rewards, weights, generations, scale, aggregation):
    """TRL's advantages of (completions, functions) rewards, NaN where a function gave None."""
    me = trainer({})
    functions = rewards.shape[1]
    me.num_iterations, me.num_generations, me.scale_rewards, me.multi_objective_aggregation = 1, generations, scale, aggregation
    me.reward_weights, me.reward_funcs, me.reward_func_names = weights, [None] * functions, [f"r{i}" for i in range(functions)]
    me._calculate_rewards = lambda *_: rewards.clone()
    count = len(rewards)
    me._generate = lambda prompts: ([[0]] * count, [[1]] * count, None, [""] * count, None, {}, None, None)
    return me._generate_and_score_completions([{"prompt": ""}] * count)["advantages"]
