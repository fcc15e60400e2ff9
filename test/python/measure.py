"""Loss phase (forward, loss, backward) and memory of FusedGRPOTrainer and of TRL's GRPOTrainer: one Llama of made-up weights, the same batch.

    python measure.py [--vocab 32000] [--completions 8] [--tokens 128] [--hidden 256] [--rounds 9]

Times: interleaved rounds in one process, median. Memory: each in a process of its own, what the peak is above the model's gradients.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "python"))


def arguments():
    parser = argparse.ArgumentParser()
    for name, value in {"vocab": 32000, "completions": 8, "tokens": 128, "hidden": 256, "rounds": 9, "layers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--loss-type", default="dapo")
    parser.add_argument("--memory-of", choices=["trl", "fused"])
    return parser.parse_args()


def trainers(options, kinds):
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=8,
        max_position_embeddings=options.tokens + 16,
        tie_word_embeddings=True,
    )
    folder = tempfile.mkdtemp()
    LlamaForCausalLM(config).save_pretrained(folder)
    stories = os.environ.get("FUSED_GRPO_STORIES", ROOT.parent / "shared/models/stories260k")  # for its tokenizer alone
    AutoTokenizer.from_pretrained(str(stories)).save_pretrained(folder)
    args = {"per_device_train_batch_size": options.completions, "num_generations": options.completions, "max_completion_length": options.tokens}
    args.update(use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", model_init_kwargs={"dtype": "float32"})
    args.update(loss_type=options.loss_type, output_dir=folder)
    rows = Dataset.from_dict({"prompt": ["a"] * 8})
    return [kind(model=folder, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=GRPOConfig(**args), train_dataset=rows) for kind in kinds]


def batch(options):
    import torch

    shape = (options.completions, options.tokens)
    ones = torch.ones(*shape, dtype=torch.long)
    return {
        "prompt_ids": ones[:, :8],
        "prompt_mask": ones[:, :8],
        "completion_ids": torch.randint(3, options.vocab, shape, generator=torch.Generator().manual_seed(1)),
        "completion_mask": ones,
        "advantages": torch.linspace(-1, 1, options.completions),
        "num_items_in_batch": ones.sum(),
    }


def step(trainer, inputs):
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train().zero_grad(set_to_none=False)
    begin = time.perf_counter()
    trainer._compute_loss(trainer.model, inputs).backward()
    return time.perf_counter() - begin


def status_bytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def memory_of(options, kind):
    import torch

    (trainer,) = trainers(options, [kind])
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    step(trainer, batch(options))
    return status_bytes("VmHWM") - before


def main():
    options = arguments()
    from trl import GRPOTrainer

    from trl_trainer import FusedGRPOTrainer

    if options.memory_of:
        print(json.dumps(memory_of(options, GRPOTrainer if options.memory_of == "trl" else FusedGRPOTrainer)))
        return
    both = trainers(options, [GRPOTrainer, FusedGRPOTrainer])
    inputs = batch(options)
    rounds = [[step(trainer, inputs) for trainer in both] for _ in range(options.rounds + 1)][1:]
    theirs, ours = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"loss phase: TRL {theirs:.3f} s, fused {ours:.3f} s: {theirs / ours:.2f} times faster")
    sizes = []
    for kind in ("trl", "fused"):
        out = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--memory-of", kind], capture_output=True, text=True, check=True)
        sizes.append(json.loads(out.stdout.strip().splitlines()[-1]) / 1e6)
    print(f"memory beyond weights and gradients: TRL {sizes[0]:.0f} MB, fused {sizes[1]:.0f} MB: {sizes[1] / sizes[0]:.2f} of it")


if __name__ == "__main__":
    main()
