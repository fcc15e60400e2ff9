"""Shared by the makers of test/golden/update: models, a tokenizer that pads, and gradients as they are stored."""

import importlib.metadata, json, os, platform

import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "../../../test/golden/models")
OUT = os.path.join(HERE, "../../../test/golden/update")
FAMILIES = ["llama", "gemma3"]
SAMPLES = 24  # entries of each tensor's gradient that are stored, beside its norm


def policy(family):
    # sdpa: transformers' eager attention takes its softmax in float32, where the mask of a padded row in float64 is -inf and the row NaN.
    return AutoModelForCausalLM.from_pretrained(os.path.join(MODELS, family), dtype=torch.float64, attn_implementation="sdpa")


def tokenizer(eos=2, vocab=97):
    """Words t0 ... t96; t0 is the pad token."""
    core = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocab)}, unk_token="t3"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="t0", eos_token=f"t{eos}", unk_token="t3", padding_side="left")


def numbers(values):
    """Enough digits for float32; positions that do not count are given as 0."""
    return [float(f"{v:.8g}") for v in (values.detach().flatten().tolist() if isinstance(values, torch.Tensor) else values)]


def stride(n):
    """Odd, so that a row of even width is not always met at the same columns."""
    return max(1, n // SAMPLES) | 1


def gradients(model):
    """Of every tensor: the norm of its gradient, and every stride-th entry."""
    found = {}
    for name, p in model.named_parameters():
        if p.grad is not None:
            flat = p.grad.detach().flatten()
            found[name] = {"norm": numbers([flat.norm().item()])[0], "stride": stride(len(flat)), "sample": numbers(flat[:: stride(len(flat))])}
    return found


def write(name, golden):
    os.makedirs(OUT, exist_ok=True)
    versions = {p: importlib.metadata.version(p) for p in ("trl", "torch", "transformers", "accelerate")}
    head = {"script": "scripts/goldens/make_update_goldens.py", **versions, "python": platform.python_version(), "dtype": "float64", "attention": "sdpa"}
    with open(os.path.join(OUT, name), "w") as f:
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in {"provenance": head, **{k: v for k, v in golden.items() if k != "cases"}}.items()]
        lines.append('"cases": [\n%s\n]' % ",\n".join(json.dumps(c, allow_nan=False) for c in golden["cases"]))
        f.write("{\n%s\n}\n" % ",\n".join(lines))
    print(name, os.path.getsize(os.path.join(OUT, name)) // 1024, "KiB")
