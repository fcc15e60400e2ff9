"""A whole step of TRL's GRPOTrainer, as its own train() makes it: a callback waits for a request before every step.

Changed is only what makes steps comparable: prompts are given as token ids, and no token ends a completion.
"""

import tempfile
import time

from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

NO_TOKEN = -1  # as end token: completions have the same length on both sides
STEPS = 10_000  # more than anybody asks for; the process ends when its input does


def peak_rss_bytes():
    """Not getrusage's: that would count the process that started this one."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


class Rounds(TrainerCallback):
    def __init__(self, channel):
        self._channel = channel
        self.seconds = {}
        self.tokens = 0

    def timed(self, name, function):
        def call(*args, **kwargs):
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            self._lap = time.perf_counter()
            self.seconds[name] = self.seconds.get(name, 0.0) + self._lap - begin
            return result

        return call

    def on_step_begin(self, *_, **__):
        self._channel.next()
        self.seconds.clear()
        self._begin = time.perf_counter()

    def on_step_end(self, *_, **__):
        end = time.perf_counter()
        phases = {**self.seconds, "optimizer": end - self._lap}  # clipping and zeroing included: all that follows the backward pass
        self._channel.answer(seconds=end - self._begin, phases=phases, tokens=self.tokens, peakRssBytes=peak_rss_bytes())


class Trainer(GRPOTrainer):
    prompts = []
    rounds = None

    def _tokenize_prompts(self, prompts):
        return [self.prompts[int(p)] for p in prompts], None, {}

    def _generate_single_turn(self, *args, **kwargs):
        completions, logps = self.rounds.timed("generate", super()._generate_single_turn)(*args, **kwargs)
        self.rounds.tokens = sum(map(len, completions))
        return completions, logps

    def _compute_loss(self, *args, **kwargs):
        return self.rounds.timed("loss", super()._compute_loss)(*args, **kwargs)


def even_tokens(completion_ids, **_):
    """The same reward as on the other side: it differs within a group."""
    return [sum(i % 2 == 0 for i in ids) / len(ids) for ids in completion_ids]


def config(request, folder):
    completions = len(request["prompts"]) * request["numGenerations"]
    return GRPOConfig(
        output_dir=folder,
        max_steps=STEPS,
        per_device_train_batch_size=completions,
        num_generations=request["numGenerations"],
        max_completion_length=request["maxCompletionLength"],
        beta=request["beta"],
        generation_kwargs={"eos_token_id": NO_TOKEN},
        model_init_kwargs={"dtype": request["dtype"], "attn_implementation": "sdpa"},
        # What makes it quickest on a CPU (measured); the defaults checkpoint, log and use autocast.
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        shuffle_dataset=False,
        seed=1,
    )


def serve(request, channel):
    count = len(request["prompts"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=request["model"],
            processing_class=AutoTokenizer.from_pretrained(request["model"], padding_side="left"),
            reward_funcs=even_tokens,
            args=config(request, folder),
            train_dataset=Dataset.from_dict({"prompt": [str(i % count) for i in range(count * 100)]}),
        )
        trainer.prompts, trainer.eos_token_ids, trainer.rounds = request["prompts"], [NO_TOKEN], Rounds(channel)
        trainer.accelerator.backward = trainer.rounds.timed("backward", trainer.accelerator.backward)
        trainer.add_callback(trainer.rounds)
        channel.answer(parameters=trainer.model.num_parameters())
        trainer.train()
