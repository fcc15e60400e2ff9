#!/usr/bin/env python3
"""Writes test/golden/adapters: LoRA adapters made by peft on the models of test/golden/models, and what peft computes with them.

    python -m venv V && V/bin/pip install torch transformers peft safetensors
    V/bin/python scripts/goldens/make_adapter_goldens.py [OUT]

Logits, loss and the gradients of A and B in float64 (from float32 weights), by autograd. Running the tests needs no Python.
"""
import json, os, platform, sys
import peft, torch, transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

SEED = 4321
HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "test", "golden")
CASES = {  # odd ranks, rank 1, a joint product of which only some parts have an adapter, GPT-2's transposed weights
    "qwen3": dict(r=3, lora_alpha=5, target_modules="all-linear"),
    "gpt2": dict(r=1, lora_alpha=2, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True),
    "gemma3": dict(r=5, lora_alpha=7, target_modules=["k_proj", "v_proj", "up_proj"], use_rslora=True),
    "llama-tied-bias": dict(r=2, lora_alpha=4, target_modules=["model.layers.1.self_attn.q_proj", "down_proj", "o_proj"]),
}


def make(name, options, out):
    torch.manual_seed(SEED)
    base = AutoModelForCausalLM.from_pretrained(os.path.join(GOLDEN, "models", name), dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():  # as begun, B is zero and A has no gradient
        for key, p in model.named_parameters():
            if ".lora_B." in key:
                p.normal_(0, 0.2)
    folder = os.path.join(out, name)
    model.save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "README.md")):
        os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    config = json.load(open(path))
    config["base_model_name_or_path"] = f"../../models/{name}"
    json.dump(config, open(path, "w"), indent=1, sort_keys=True)
    model = model.double().eval()
    ids = torch.randint(3, 97, (1, 24), generator=torch.Generator().manual_seed(SEED))
    result = model(ids, labels=ids)
    result.loss.backward()
    grads = {k.replace(".default", ""): p.grad.flatten().tolist() for k, p in model.named_parameters() if p.grad is not None}
    golden = {"made": {"script": "scripts/goldens/make_adapter_goldens.py", "seed": SEED, "torch": torch.__version__, "peft": peft.__version__,
                       "transformers": transformers.__version__, "python": platform.python_version()},
              "ids": ids[0].tolist(), "logits": {"first": result.logits[0, 0].tolist(), "last": result.logits[0, -1].tolist()},
              "loss": result.loss.item(),
              "grads": {k: [float(f"{x:.9g}") for x in v] for k, v in grads.items()}}
    json.dump(golden, open(os.path.join(folder, "golden.json"), "w"))
    print(name, sum(p.numel() for p in model.parameters() if p.requires_grad), "numbers in the adapter")


if __name__ == "__main__":
    for name, options in CASES.items():
        make(name, options, sys.argv[1] if len(sys.argv) > 1 else os.path.join(GOLDEN, "adapters"))
