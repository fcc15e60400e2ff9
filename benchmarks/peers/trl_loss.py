"""TRL's loss on given logits: its selective_log_softmax and entropy_from_logits, and its trainer's loss from there on."""

from ops import Case, batch, read, trl_inputs, trl_trainer
from trl.trainer.utils import selective_log_softmax_and_entropy


def serve(request, channel):
    targets, mask, advantages = batch(request)
    logits = read(request["logits"], request["dtype"], *targets.shape, request["vocab"]).requires_grad_(True)
    trainer = trl_trainer(request)
    inputs = trl_inputs(targets, mask, advantages)

    def logps_and_entropies(*_, **__):
        # In the trainer, too, entropies are a metric without a gradient.
        return *selective_log_softmax_and_entropy(logits, targets, entropy_requires_grad=False), None

    trainer._get_per_token_logps_and_entropies = logps_and_entropies
    case = Case(
        lambda: trainer._compute_loss(None, inputs),
        {"gradient": logits},
        lambda: trainer._metrics["train"]["entropy"][-1],
    )
    channel.answer()
    channel.serve(case)
