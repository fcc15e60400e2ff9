#!/usr/bin/env python3
"""Writes test/golden/models: tiny random models of every supported family and what transformers computes with them.

    python -m venv V && V/bin/pip install torch transformers tokenizers safetensors numpy
    V/bin/python scripts/goldens/make_goldens.py [OUT]

Every number is made with the eager attention of transformers. Logits, log-probs and gradients in float64 from float32 weights (the truth that
a float32 implementation approaches), greedy ids in float32. Running the tests needs no Python.
"""
import json, os, platform, sys
import tokenizers, torch, transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM

SEED = 1234
BASE = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False)
ROPE = dict(rope_theta=10000.0)
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)
CASES = {
    "llama": dict(model_type="llama", **BASE, rope_parameters=dict(rope_type="default", **ROPE)),
    "llama-tied-bias": dict(model_type="llama", **{**BASE, "tie_word_embeddings": True}, attention_bias=True, mlp_bias=True,
                            rope_parameters=dict(rope_type="linear", factor=2.0, **ROPE)),
    "llama3-rope": dict(model_type="llama", **BASE, rope_parameters=LLAMA3),
    "llama-yarn": dict(model_type="llama", **BASE, rope_parameters=YARN),
    "mistral": dict(model_type="mistral", **BASE, head_dim=16, sliding_window=5, rope_parameters=dict(rope_type="default", **ROPE)),
    "qwen2": dict(model_type="qwen2", **BASE, use_sliding_window=True, sliding_window=6, max_window_layers=1,
                  rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    "qwen3": dict(model_type="qwen3", **BASE, head_dim=16, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    "smollm3": dict(model_type="smollm3", **{**BASE, "tie_word_embeddings": True}, no_rope_layers=[1, 0],
                    rope_parameters=dict(rope_type="default", rope_theta=2000000.0)),
    "gemma3": dict(model_type="gemma3_text", **{**BASE, "tie_word_embeddings": True}, head_dim=12, sliding_window=5, query_pre_attn_scalar=12,
                   hidden_activation="gelu_pytorch_tanh", layer_types=["sliding_attention", "full_attention"], final_logit_softcapping=20.0),
    "gpt2": dict(model_type="gpt2", vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2,
                 activation_function="gelu_new", attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0),
}


def provenance():
    return {"script": "scripts/goldens/make_goldens.py", "seed": SEED, "torch": torch.__version__, "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__, "python": platform.python_version(), "attention": "eager"}


def make_model(name, config, out):
    torch.manual_seed(SEED)
    cfg = AutoConfig.for_model(**config)
    cfg._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(cfg, dtype=torch.float32)
    with torch.no_grad():  # the default initialisation is too flat to tell a wrong model from a right one
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, 0.25)
            else:
                p.add_(torch.randn_like(p) * 0.2)
    model.eval()
    folder = os.path.join(out, name)
    model.save_pretrained(folder)
    ids = torch.randint(3, 97, (24,), generator=torch.Generator().manual_seed(SEED)).unsqueeze(0)
    prompt = ids[:, :7]
    greedy = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20, min_new_tokens=20, use_cache=True,
                            eos_token_id=None, pad_token_id=0)
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    logits = exact(ids).logits[0]
    logps = torch.log_softmax(logits[:-1], -1)
    token_logps = logps.gather(1, ids[0, 1:, None])[:, 0]
    entropies = -(logps.exp() * logps).sum(-1)
    loss = -token_logps.mean()
    loss.backward()
    seen = set()
    grads = {}
    for key, p in exact.named_parameters():
        if id(p) not in seen:
            seen.add(id(p))
            grads[key] = {"norm": p.grad.norm().item(), "first": p.grad.flatten()[:4].tolist(), "sum": p.grad.sum().item()}
    golden = {"provenance": provenance(), "ids": ids[0].tolist(), "promptLength": 7, "greedy": greedy[0, 7:].tolist(),
              "logits": {"first": logits[0].tolist(), "last": logits[-1].tolist(), "mid": logits[11].tolist()},
              "logps": token_logps.tolist(), "entropies": entropies.tolist(), "loss": loss.item(), "grads": grads}
    with open(os.path.join(folder, "golden.json"), "w") as f:
        json.dump(golden, f)
    size = os.path.getsize(os.path.join(folder, "model.safetensors"))
    print(f"{name:16} {size:8} bytes  loss {loss.item():.6f}")


TEXTS = ["Hello world", "  two  spaces", "naïve café ☕ 你好", "line\nbreak\ttab", "1234567 + 89 = ?", "", "<|im_start|>user\nhi<|im_end|>", "it's we'll I'M", "🙂🙃"]
CORPUS = ["Hello world, hello there. It's a small corpus of words and numbers: 1 2 3 10 20 300.", "The quick brown fox jumps over the lazy dog.",
          "naïve café", "we'll see what's what; I'm here"] * 4


def byte_level():
    """The kind of Qwen, SmolLM, Llama 3 and GPT-2: byte-level BPE; Llama 3's split pattern; BOS by a template."""
    t = Tokenizer(models.BPE())
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    from tokenizers import Regex
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                      special_tokens=["<|begin|>", "<|im_start|>", "<|im_end|>"], show_progress=False))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                            processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])])
    return t, {"bos_token": "<|begin|>", "eos_token": "<|im_end|>"}


def gpt2_like():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                      special_tokens=["<|endoftext|>"], show_progress=False))
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def sentencepiece_like():
    """The kind of Llama 2, Mistral and Gemma: BPE with byte fallback, spaces as U+2581."""
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if a["content"] in ("<unk>", "<s>", "</s>")]
    t = Tokenizer.from_str(json.dumps(data))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t, {"bos_token": "<s>", "eos_token": "</s>"}


def make_tokenizers(out):
    for name, make in [("byte-level", byte_level), ("gpt2-like", gpt2_like), ("sentencepiece-like", sentencepiece_like)]:
        t, config = make()
        folder = os.path.join(out, "..", "tokenizers", name)
        os.makedirs(folder, exist_ok=True)
        t.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
            json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}, f)
        cases = []
        for text in TEXTS:
            ids, plain = t.encode(text).ids, t.encode(text, add_special_tokens=False).ids
            cases.append({"text": text, "ids": ids, "plain": plain, "decoded": t.decode(ids, skip_special_tokens=True)})
        with open(os.path.join(folder, "golden.json"), "w") as f:
            json.dump({"provenance": provenance(), "cases": cases}, f, ensure_ascii=False)
        print(f"{name:20} {t.get_vocab_size()} tokens")


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../../test/golden/models")
    transformers.logging.set_verbosity_error()
    for name, config in CASES.items():
        make_model(name, config, out)
    make_tokenizers(out)
