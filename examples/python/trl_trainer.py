"""TRL's GRPOTrainer with fused-grpo's loss: `FusedGRPOTrainer` takes the place of `GRPOTrainer`, with the same arguments.

Written against TRL 1.16. Where a run uses what the fused loss lacks, TRL's own loss is used, and a warning says why.
"""

import warnings

import torch
from trl import GRPOTrainer

from fused_grpo import grpo_loss, selective_logp

FUSED = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo")
CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
#: Inputs of a model that reads more than tokens.
MULTIMODAL = ("pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "image_sizes", "token_type_ids", "mm_token_type_ids")


class FusedGRPOTrainer(GRPOTrainer):
    def _why_not(self, inputs):
        """Why this loss is TRL's to compute; None where it is ours."""
        if self.loss_type not in FUSED:
            return f"loss_type '{self.loss_type}' is unknown here"
        if self.loss_type == "luspo" and self.importance_sampling_level != "sequence":
            return "loss_type 'luspo' is fused with importance_sampling_level 'sequence' only"
        if self.importance_sampling_level == "sequence" and self.loss_type == "vespo":
            return "loss_type 'vespo' is fused with importance_sampling_level 'token' only"
        if self.args.delta is not None and self.loss_type not in CLIPPED:
            return f"delta has no meaning in loss_type '{self.loss_type}'"
        if self.use_vllm and self.vllm_importance_sampling_correction:
            return "vllm_importance_sampling_correction: TRL hands ratios on, not log-probs"
        if self.use_adaptive_entropy:
            return "use_adaptive_entropy"
        if self.aux_loss_enabled:
            return "the auxiliary loss of a mixture of experts"
        if self.accelerator.num_processes > 1 and self.top_entropy_quantile < 1:
            return "top_entropy_quantile over several processes"
        found = [name for name in MULTIMODAL if inputs.get(name) is not None]
        return f"inputs beside tokens: {', '.join(found)}" if found else None

    def _logits(self, model, inputs):
        """(B, T + 1, V): the last row of each sequence predicts nothing."""
        input_ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention_mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        keep = inputs["completion_ids"].size(1) + 1
        with self.accelerator.autocast():
            return model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=keep, use_cache=False).logits[:, -keep:]

    def _normalizer(self, inputs, mask, accumulated):
        """What TRL divides the sum of token losses by in this micro-batch."""
        sequences = mask.size(0)
        if self.loss_type == "bnpo":
            return mask.sum().clamp(min=1).item() * accumulated
        if self.loss_type == "dr_grpo":
            return sequences * self.max_completion_length * accumulated
        if self.loss_type in ("cispo", "dapo", "vespo"):
            tokens = inputs["num_items_in_batch"].clamp(min=1).item() / self.accelerator.num_processes
            return tokens * (accumulated / self.args.steps_per_generation if self.model.training else 1)
        return sequences * accumulated

    def _loss_options(self, inputs, mask):
        accumulated = self.current_gradient_accumulation_steps if self.model.training else 1
        options = {
            "loss_type": self.loss_type,
            "importance_sampling_level": self.importance_sampling_level,
            "temperature": self.temperature,
            "epsilon": self.epsilon_low,
            "epsilon_high": self.epsilon_high,
            "delta": self.args.delta,
            "beta": self.beta,
            "use_bias_correction_kl": int(self.args.use_bias_correction_kl),
            "off_policy_mask_threshold": self.off_policy_mask_threshold,
            "top_entropy_quantile": self.top_entropy_quantile,
            "entropy_coef": self.entropy_coef / accumulated,
            "normalizer": self._normalizer(inputs, mask, accumulated),
        }
        for name in ("sapo_temperature_pos", "sapo_temperature_neg", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"):
            options[name] = getattr(self.args, name)
        return options

    def _compute_loss(self, model, inputs):
        reason = self._why_not(inputs)
        if reason:
            warnings.warn(f"FusedGRPOTrainer computes TRL's own loss: {reason}", stacklevel=2)
            return super()._compute_loss(model, inputs)
        mask = inputs["completion_mask"] if "tool_mask" not in inputs else inputs["completion_mask"] * inputs["tool_mask"]
        loss, metrics = grpo_loss(
            self._logits(model, inputs),
            inputs["completion_ids"],
            inputs["advantages"],
            mask=mask,
            old_logps=inputs.get("old_per_token_logps"),
            ref_logps=inputs["ref_per_token_logps"] if self.beta != 0 else None,
            sampler_logps=inputs.get("sampling_per_token_logps") if self.off_policy_mask_threshold is not None else None,
            in_place=True,  # the head's backward pass needs its inputs, not the logits
            **self._loss_options(inputs, mask),
        )
        with torch.no_grad():
            self._log_metrics(inputs, mask, loss, metrics)
        return loss

    def _log_metrics(self, inputs, mask, loss, metrics):
        """Under TRL's names."""
        log = self._metrics["train" if self.model.training else "eval"]
        tokens = torch.tensor(float(metrics["tokens"]))

        def mean(value):
            total = self.accelerator.reduce(torch.stack([value * tokens, tokens]).to(loss.device), reduction="sum")
            return (total[0] / total[1].clamp(min=1)).item()

        log["entropy"].append(mean(metrics["entropy"]))
        if self.beta != 0:
            log["kl"].append(mean(metrics["kl"]))
        if self._entropy_bonus_enabled:
            bonus = self.entropy_coef * metrics["entropy"]
            log["policy_loss"].append(self.accelerator.gather(loss.detach() + bonus).nanmean().item())
            if self.model.training and self.accelerator.sync_gradients:
                log["entropy_coef"].append(self.entropy_coef)
        if self.loss_type in CLIPPED:
            low, high = metrics["clip_ratio_low"], metrics["clip_ratio_high"]
            for name, value in (("low", low), ("high", high), ("region", low + high)):
                log[f"clip_ratio/{name}_mean"].append(mean(value))
        elif self.loss_type == "cispo":
            log["cispo_clip_ratio"].append(mean(metrics["clip_ratio_high"]))

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, compute_aux_loss=False, **more):
        """Log-probs that no gradient goes through (old policy, reference): the same kernels."""
        if compute_aux_loss or any(value is not None for value in more.values()) or torch.is_grad_enabled():
            given = {"batch_size": batch_size, "compute_entropy": compute_entropy, "compute_aux_loss": compute_aux_loss}
            return super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, **given, **more)
        found = []
        for at in range(0, len(input_ids), batch_size or len(input_ids)):
            ids, attends = (x[at : at + (batch_size or len(input_ids))] for x in (input_ids, attention_mask))
            with self.accelerator.autocast():
                logits = model(input_ids=ids, attention_mask=attends, logits_to_keep=logits_to_keep + 1, use_cache=False).logits
            mask = attends[:, -logits_to_keep:]
            found.append(selective_logp(logits[:, -logits_to_keep - 1 :], ids[:, -logits_to_keep:], mask, self.temperature, entropy=True))
        logps, entropies = (torch.cat(parts) for parts in zip(*found, strict=True))
        return logps, entropies if compute_entropy else None, None
