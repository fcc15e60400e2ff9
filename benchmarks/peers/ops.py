"""What the cases of single ops share: inputs as raw files, TRL's own loss without a model or a training loop around it, one measured round."""

import os
import time
from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int32": torch.int32, "uint8": torch.uint8}


def read(path, dtype, *shape):
    """A raw file as a tensor in memory of its own: pages of a mapped file are not what a training run works on."""
    size = torch.Size(shape).numel()
    return torch.from_file(path, shared=False, size=size, dtype=DTYPES[dtype]).clone().reshape(shape)


def write(tensor, folder, name):
    tensor.detach().contiguous().view(torch.uint8).numpy().tofile(os.path.join(folder, name))


def batch(request):
    """(targets, mask, advantages): two dimensions, a row per completion."""
    rows = len(request["advantages"])
    shape = (rows, request["tokens"] // rows)
    targets = read(request["targets"], "int32", *shape).long()
    mask = read(request["mask"], "uint8", *shape).int()
    return targets, mask, torch.tensor(request["advantages"])


def trl_trainer(request):
    """A GRPOTrainer without its __init__: what its _compute_loss reads, at GRPOConfig's defaults."""
    from trl import GRPOTrainer

    trainer = object.__new__(GRPOTrainer)
    trainer.__dict__.update(
        accelerator=SimpleNamespace(
            num_processes=1, is_main_process=True, autocast=nullcontext, gather=lambda x: x, reduce=lambda x, **_: x
        ),
        args=SimpleNamespace(delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        loss_type=request["lossType"],
        importance_sampling_level=request["level"],
        epsilon_low=0.2,
        epsilon_high=0.2,
        beta=0.0,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _metrics={"train": defaultdict(list)},
    )
    return trainer


def trl_inputs(targets, mask, advantages):
    """What _compute_loss is given: a prompt of one token, whose logits are the first completion token's."""
    one = torch.ones(len(targets), 1, dtype=torch.long)
    return {
        "prompt_ids": one,
        "prompt_mask": one,
        "completion_ids": targets,
        "completion_mask": mask,
        "advantages": advantages,
        "num_items_in_batch": mask.sum(),
    }


class Case:
    """Forward and backward of `loss`, a function that returns the loss; `leaves` get gradients."""

    def __init__(self, loss, leaves, entropy=lambda: None):
        self._loss, self._leaves, self._entropy = loss, leaves, entropy

    def run(self):
        for leaf in self._leaves.values():
            leaf.grad = None
        begin = time.perf_counter()
        self._value = self._loss()
        self._value.backward()
        return {"seconds": time.perf_counter() - begin}

    def check(self, folder):
        self.run()
        for name, leaf in self._leaves.items():
            write(leaf.grad, folder, name)
        return {"loss": self._value.item(), "entropy": self._entropy()}
