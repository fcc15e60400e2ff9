"""TRL's trainer from hidden states on: the head that it fuses with the log-probs and entropies (add_fused_lm_head), and its loss."""

from types import SimpleNamespace

import torch
from ops import Case, batch, read, trl_inputs, trl_trainer
from trl.trainer.utils import add_fused_lm_head


class Head(torch.nn.Module):
    """A causal language model whose body returns given hidden states."""

    def __init__(self, hidden, weight):
        super().__init__()
        text = SimpleNamespace()
        self.config = SimpleNamespace(get_text_config=lambda: text)
        self.base_model = lambda **_: SimpleNamespace(last_hidden_state=hidden())
        self.get_output_embeddings = lambda: SimpleNamespace(weight=weight, bias=None)

    def forward(self):
        raise NotImplementedError("only the fused head is called")


def serve(request, channel):
    targets, mask, advantages = batch(request)
    hidden = read(request["hidden"], request["dtype"], *targets.shape, request["width"]).requires_grad_(True)
    weight = read(request["weight"], request["dtype"], request["vocab"], request["width"]).requires_grad_(True)
    # The last position of a sequence predicts nothing; the head cuts it off.
    end = torch.zeros(len(targets), 1, request["width"], dtype=hidden.dtype)
    model = Head(lambda: torch.cat([hidden, end], 1), weight)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    trainer = trl_trainer(request)
    inputs = trl_inputs(targets, mask, advantages)
    case = Case(
        lambda: trainer._compute_loss(model, inputs),
        {"gradHidden": hidden, "gradWeight": weight},
        lambda: trainer._metrics["train"]["entropy"][-1],
    )
    channel.answer()
    channel.serve(case)
