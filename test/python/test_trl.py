"""FusedGRPOTrainer against TRL's GRPOTrainer: the same loss and gradients for every loss type, the same training trajectory."""

import json
import os
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "python"))

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

import transformers  # noqa: E402

import fused_grpo  # noqa: E402
from trl_trainer import FUSED, FusedGRPOTrainer  # noqa: E402

transformers.utils.logging.disable_progress_bar()
MODEL = Path(os.environ.get("FUSED_GRPO_STORIES", ROOT.parent / "shared" / "models" / "stories260k"))


def even_tokens(completion_ids, **_):
    return [sum(i % 2 == 0 for i in ids) / max(len(ids), 1) for ids in completion_ids]


def make(kind, folder, **options):
    options = {"max_completion_length": 12, "num_generations": 4, "per_device_train_batch_size": 8, "max_steps": 20, **options}
    config = GRPOConfig(
        output_dir=folder,
        learning_rate=1e-3,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        log_level="error",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=1,
        model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"},
        **options,
    )
    prompts = ["Once upon a time", "The dog", "One day", "Lily saw"] * 40
    return kind(
        model=str(MODEL),
        processing_class=AutoTokenizer.from_pretrained(str(MODEL), padding_side="left"),
        reward_funcs=even_tokens,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
    )


def batch(vocab=512, seed=3):
    """What _compute_loss is given, off policy, with padding."""
    g = torch.Generator().manual_seed(seed)
    completion_mask = torch.ones(8, 12, dtype=torch.long)
    for i, length in enumerate([12, 5, 1, 9, 12, 3, 7, 12]):
        completion_mask[i, length:] = 0
    prompt_mask = torch.ones(8, 4, dtype=torch.long)
    prompt_mask[2, :2] = 0
    return {
        "prompt_ids": torch.randint(3, vocab, (8, 4), generator=g),
        "prompt_mask": prompt_mask,
        "completion_ids": torch.randint(3, vocab, (8, 12), generator=g),
        "completion_mask": completion_mask,
        "advantages": torch.randn(8, generator=g),
        "num_items_in_batch": completion_mask.sum(),
        "noise": torch.randn(2, 8, 12, generator=g),
    }


CASES = [{"loss_type": t} for t in FUSED if t != "luspo"] + [
    {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    {"loss_type": "dapo", "importance_sampling_level": "sequence"},
    {"loss_type": "dapo", "beta": 0.1},
    {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False, "epsilon_high": 0.4},
    {"loss_type": "bnpo", "delta": 1.1},
    {"loss_type": "dapo", "top_entropy_quantile": 0.3},
    {"loss_type": "dapo", "entropy_coef": 0.05},
    {"loss_type": "dapo", "off_policy_mask_threshold": 0.01},
    {"loss_type": "dapo", "temperature": 0.7},
]


@unittest.skipUnless(MODEL.exists(), f"no model at {MODEL}")
class SameLoss(unittest.TestCase):
    def test_losses_and_gradients(self):
        """Relative to the largest gradient: 1e-4, of float32 sums in another order."""
        for options in CASES:
            if options["loss_type"] == "cispo":
                options = {**options, "epsilon_high": 1.1}
            with tempfile.TemporaryDirectory() as folder:
                theirs, ours = (make(kind, folder, **options) for kind in (GRPOTrainer, FusedGRPOTrainer))
                for off_policy in (False, True):
                    with self.subTest(options, off_policy=off_policy):
                        self.compare(theirs, ours, off_policy)

    def compare(self, theirs, ours, off_policy):
        losses, grads = [], []
        for trainer in (theirs, ours):
            inputs = batch()
            noise = inputs.pop("noise")
            ids, mask = (torch.cat([inputs[f"prompt_{x}"], inputs[f"completion_{x}"]], 1) for x in ("ids", "mask"))
            with torch.no_grad():
                logps, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(theirs, theirs.model, ids, mask, 12)
            if off_policy:
                inputs["old_per_token_logps"] = logps + 0.3 * noise[0]
            inputs["ref_per_token_logps"] = logps + 0.3 * noise[1]
            trainer.current_gradient_accumulation_steps = 2
            trainer.model.train().zero_grad()
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="FusedGRPOTrainer")
                loss = trainer._compute_loss(trainer.model, inputs)
            loss.backward()
            losses.append(loss.item())
            grads.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
        self.assertLess(abs(losses[0] - losses[1]), 2e-6 * max(1, abs(losses[0])))
        self.assertGreater(grads[0].abs().max().item(), 0)
        self.assertLess((grads[0] - grads[1]).abs().max().item(), 1e-4 * grads[0].abs().max().item())
        for name in ("entropy", "kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio"):
            got, want = (t._metrics["train"].get(name) for t in (ours, theirs))
            self.assertEqual(got is None, want is None, name)
            if want:
                self.assertAlmostEqual(got[-1], want[-1], places=4, msg=name)

    def test_trajectory(self):
        """20 steps, generation included: rewards, losses and weights stay together."""
        logs, weights = [], []
        for kind in (GRPOTrainer, FusedGRPOTrainer):
            with tempfile.TemporaryDirectory() as folder:
                trainer = make(kind, folder, beta=0.05, num_iterations=2)
                trainer.train()
                logs.append([e for e in trainer.state.log_history if "loss" in e])
                weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
        self.assertEqual(len(logs[0]), 20)
        for theirs, ours in zip(*logs, strict=True):
            self.assertEqual("reward" in theirs, "reward" in ours)
            self.assertAlmostEqual(theirs.get("reward", 0), ours.get("reward", 0), places=5)
            for name in ("loss", "kl", "entropy"):
                self.assertAlmostEqual(theirs[name], ours[name], delta=1e-3 * max(0.1, abs(theirs[name])), msg=name)
        self.assertLess((weights[0] - weights[1]).abs().max().item(), 2e-3)
        self.assertNotEqual(logs[0][0]["reward"], logs[0][-2]["reward"])  # of two steps on a batch, the first has the reward

    def test_falls_back_loudly(self):
        with tempfile.TemporaryDirectory() as folder:
            trainer = make(FusedGRPOTrainer, folder, loss_type="luspo")
            inputs = batch()
            inputs.pop("noise")
            with self.assertWarnsRegex(UserWarning, "TRL's own loss: .*luspo.*sequence"):
                trainer.current_gradient_accumulation_steps = 1
                loss = trainer._compute_loss(trainer.model.train(), inputs)
            loss.backward()


class Functions(unittest.TestCase):
    def test_structs_are_the_header_s(self):
        import ctypes

        abi = json.loads((ROOT / "test/capi/abi.json").read_text())
        self.assertEqual(fused_grpo.ABI_VERSION, abi["version"])
        for name, struct in fused_grpo.STRUCTS.items():
            self.assertEqual(ctypes.sizeof(struct), abi["structs"][name]["size"], name)
            places = {f: (getattr(struct, f).offset, getattr(struct, f).size) for f, _ in struct._fields_}
            wanted = {f: tuple(map(int, place.split()[:2])) for f, place in abi["structs"][name]["fields"].items()}
            self.assertEqual(places, wanted, name)
        for option, names in fused_grpo.CHOICES.items():
            prefix = {"importance_sampling_level": "level", "sampler_importance_sampling": "sampler", "dppo_divergence": "divergence"}
            for at, choice in enumerate(names):
                known = prefix.get(option, "kl_gradient" if option == "kl_gradient" else "")
                self.assertEqual(abi["enums"][f"FG_{known + '_' if known else ''}{choice}".upper()], at)

    def test_selective_logp(self):
        g = torch.Generator().manual_seed(1)
        for dtype, near in ((torch.float32, 2e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)):
            for shape in ((7, 33), (3, 5, 33), (3, 6, 40)):
                logits = torch.randn(*shape, generator=g).to(dtype)[..., :33].requires_grad_()  # with gaps between rows
                targets = torch.randint(0, 33, (7,) if len(shape) == 2 else (3, 5), generator=g)
                mask = torch.rand(targets.shape, generator=g) < 0.8
                weights = torch.randn(2, *targets.shape, generator=g)
                logps, entropies = fused_grpo.selective_logp(logits, targets, mask, 0.7, entropy=True)
                grad = torch.autograd.grad((logps * weights[0] + entropies * weights[1]).sum(), logits)[0]
                rows = logits if logits.dim() == 2 else logits[:, :5]
                all_logps = torch.log_softmax(rows.float() / 0.7, -1)
                wanted = all_logps.gather(-1, targets[..., None])[..., 0] * mask
                wanted_entropies = -(all_logps.exp() * all_logps).sum(-1) * mask
                wanted_grad = torch.autograd.grad((wanted * weights[0] + wanted_entropies * weights[1]).sum(), logits)[0]
                torch.testing.assert_close(logps, wanted, atol=2e-6, rtol=2e-6)
                torch.testing.assert_close(entropies, wanted_entropies, atol=4e-6, rtol=4e-6)
                torch.testing.assert_close(grad, wanted_grad, atol=near, rtol=near)

    def test_grpo_loss(self):
        g = torch.Generator().manual_seed(2)
        logits = torch.randn(3, 6, 33, generator=g)
        targets = torch.randint(0, 33, (3, 5), generator=g)
        advantages = torch.tensor([1.0, -1.0, 0.5])
        results = []
        for in_place, scale in ((False, 1.0), (True, 1.0), (False, 3.0)):
            leaf = logits.clone().requires_grad_()
            given = leaf * 1 if in_place else leaf  # nobody needs the product
            loss, metrics = fused_grpo.grpo_loss(given, targets, advantages, in_place=in_place, loss_type="grpo")
            (scale * loss).backward()
            results.append(leaf.grad / scale)
            self.assertEqual(metrics["tokens"], 15)
        ratio = torch.log_softmax(leaf[:, :5], -1).gather(-1, targets[..., None])[..., 0]
        wanted = -((ratio - ratio.detach()).exp() * advantages[:, None]).mean()
        leaf.grad = None
        wanted.backward()
        for grad in results:
            torch.testing.assert_close(grad, leaf.grad, atol=1e-6, rtol=1e-5)
        per_token, _ = fused_grpo.grpo_loss(logits, targets, advantages[:, None].expand(3, 5), loss_type="grpo")
        self.assertEqual(per_token.item(), loss.item())

    def test_mistakes(self):
        logits, targets, advantages = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), torch.ones(2)
        with self.assertRaisesRegex(fused_grpo.FusedGrpoError, r"from 0 to 4 for targets\[0\] \(sequence 0, token 0\) but received 9") as caught:
            fused_grpo.grpo_loss(logits, targets + 9, advantages)
        self.assertEqual((caught.exception.status, caught.exception.argument), ("FG_INVALID_ARG", "targets"))
        for wrong in (
            lambda: fused_grpo.grpo_loss(logits, targets, torch.ones(3)),
            lambda: fused_grpo.grpo_loss(logits, targets, advantages, old_logps=torch.zeros(3)),
            lambda: fused_grpo.grpo_loss(logits, targets, advantages, epsilon=-1.0),
            lambda: fused_grpo.grpo_loss(logits, targets, advantages, loss_type="ppo"),
            lambda: fused_grpo.selective_logp(logits, targets[:, :1]),
        ):
            self.assertRaises(ValueError, wrong)
        for wrong in (
            lambda: fused_grpo.grpo_loss(logits, targets, advantages, clip=1),
            lambda: fused_grpo.selective_logp(logits.double(), targets),
        ):
            self.assertRaises(TypeError, wrong)
        self.assertEqual(logits.abs().sum(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
