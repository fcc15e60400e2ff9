"""Trains with TRL's RewardTrainer: argv[1] is a JSON object (model, train, test, steps, batch, learningRate, seed); prints its held-out accuracy."""

import json
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer


def rows(path):
    with open(path) as lines:
        return Dataset.from_list([json.loads(line) for line in lines])


def main():
    o = json.loads(sys.argv[1])
    torch.set_num_threads(o["threads"])
    model = AutoModelForSequenceClassification.from_pretrained(o["model"], dtype=torch.float32)
    with tempfile.TemporaryDirectory() as out:
        args = RewardConfig(output_dir=out, per_device_train_batch_size=o["batch"], per_device_eval_batch_size=256, max_steps=o["steps"],
                            learning_rate=o["learningRate"], seed=o["seed"], logging_strategy="no", save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                            gradient_checkpointing=False, disable_tqdm=True)  # fmt: skip
        trainer = RewardTrainer(model=model, args=args, train_dataset=rows(o["train"]), eval_dataset=rows(o["test"]),
                                processing_class=AutoTokenizer.from_pretrained(o["model"]))  # fmt: skip
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
        evaluated = trainer.evaluate()
    print(json.dumps({"accuracy": evaluated["eval_accuracy"], "loss": evaluated["eval_loss"], "seconds": seconds}))


main()
