"""TRL's RewardTrainer on a tiny model: losses, metrics and gradients of its first step, and the losses of the next ones. In float64.

Writes OUT/model (a reward model with the byte-level tokenizer of test/golden/tokenizers and a chat template) and OUT/trl.json.
"""
import json, os, platform, shutil, tempfile
import torch, transformers, trl
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, TrainerCallback
from trl import RewardConfig, RewardTrainer

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENIZER = os.path.join(HERE, "../../../test/golden/tokenizers/byte-level")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

TEXT = [
    {"prompt": "What is the quick brown fox?", "chosen": " A small corpus of words.", "rejected": " The lazy dog, we'll see.", "margin": 0.5},
    {"prompt": "Numbers: 1 2 3", "chosen": " 10 20 300<|im_end|>", "rejected": "", "margin": 0.0},
    {"prompt": "Hello world,", "chosen": " hello there.", "rejected": " hello there. It's a word", "margin": 0.25},
    {"prompt": "we'll see", "chosen": " what's what; I'm here", "rejected": " naïve café", "margin": 1.0},
]
WHOLE = [{"chosen": r["prompt"] + r["chosen"], "rejected": r["rejected"] + r["prompt"]} for r in TEXT]


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


CHAT = [{"prompt": user(r["prompt"]), "chosen": assistant(r["chosen"].strip()), "rejected": assistant(r["rejected"] + "!")} for r in TEXT]
FULL_CHAT = [{"chosen": user(r["prompt"]) + assistant(r["chosen"].strip()), "rejected": user(r["prompt"]) + assistant(r["rejected"] + "?")} for r in TEXT]
CASES = [
    {"name": "text, prompt and margin", "rows": TEXT, "config": {}},
    {"name": "text, centered", "rows": WHOLE, "config": {"center_rewards_coefficient": 0.1}},
    {"name": "chat", "rows": CHAT, "config": {}},
    {"name": "whole conversations", "rows": FULL_CHAT, "config": {"center_rewards_coefficient": 0.01}},
    {"name": "a pad token of its own", "rows": TEXT, "config": {"pad_token": "<|begin|>"}},
    {"name": "a long row is left out", "rows": TEXT, "config": {"max_length": 19}},
]
STEPS, RATE = 4, 1e-3


def make_model(folder):
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                         max_position_embeddings=128, bos_token_id=0, eos_token_id=tokenizer.eos_token_id, num_labels=1)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.3) if p.dim() > 1 else p.add_(torch.randn_like(p) * 0.2)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(TOKENIZER, name), folder)
    with open(os.path.join(folder, "chat_template.jinja"), "w") as f:
        f.write(TEMPLATE)


class Watch(TrainerCallback):
    def __init__(self):
        self.grads, self.logs = None, []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.grads is None:
            self.grads = {name: {"norm": p.grad.norm().item(), "first": p.grad.flatten()[:4].tolist()} for name, p in model.named_parameters()}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.logs.append({key: float(logs[key]) for key in ("loss", "accuracy", "margin", "mean_reward", "min_reward", "max_reward", "grad_norm")})


class ExactLoss(RewardTrainer):
    """Trainer rounds the loss that it logs to four places."""

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.exact = [*getattr(self, "exact", []), loss.item()]
        return loss


def run(folder, case):
    watch = Watch()
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64)
    with tempfile.TemporaryDirectory() as out:
        args = RewardConfig(output_dir=out, per_device_train_batch_size=8, max_steps=STEPS, learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=0.0,
                            logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, **case["config"])
        trainer = ExactLoss(model=model, args=args, train_dataset=Dataset.from_list(case["rows"]), processing_class=AutoTokenizer.from_pretrained(folder), callbacks=[watch])
        rows = len(trainer.train_dataset)
        trainer.train()
    return {**case, "kept": rows, "losses": trainer.exact, "logs": watch.logs, "grads": watch.grads}


def tokens():
    """Text as RewardTrainer tokenizes it, by tokenizers of three kinds."""
    found = {}
    for kind in sorted(os.listdir(os.path.dirname(TOKENIZER))):
        tokenizer = AutoTokenizer.from_pretrained(os.path.join(os.path.dirname(TOKENIZER), kind))
        rows = [{"prompt": r["prompt"], "chosen": r["chosen"].replace("<|im_end|>", tokenizer.eos_token), "rejected": r["rejected"]} for r in TEXT]
        model = AutoModelForSequenceClassification.from_config(LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_labels=1))
        with tempfile.TemporaryDirectory() as out:
            args = RewardConfig(output_dir=out, report_to=[], use_cpu=True, bf16=False)
            made = RewardTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer).train_dataset
        found[kind] = {"rows": rows, "chosen": made["chosen_ids"][:], "rejected": made["rejected_ids"][:], "padTokenId": model.config.pad_token_id}
    return found


def main(out):
    folder = os.path.join(out, "model")
    make_model(folder)
    golden = {"provenance": {"script": "scripts/goldens/peers/trl_reward.py", "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
                             "python": platform.python_version(), "dtype": "float64"},
              "steps": STEPS, "learningRate": RATE, "cases": [run(folder, case) for case in CASES], "tokens": tokens()}
    with open(os.path.join(out, "trl.json"), "w") as f:
        json.dump(golden, f)
