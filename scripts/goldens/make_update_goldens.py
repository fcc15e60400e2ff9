#!/usr/bin/env python3
"""Writes test/golden/update: losses and gradients of whole training steps on the models of test/golden/models, by TRL's own trainers.

    python -m venv V && V/bin/pip install torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 datasets trl==1.16.0
    V/bin/pip install --no-deps --target P trl==1.12.0 && V/bin/pip install pandas      # the last TRL that has a PPOTrainer
    V/bin/python scripts/goldens/make_update_goldens.py grpo
    PYTHONPATH=P V/bin/python scripts/goldens/make_update_goldens.py ppo

The trainers run unchanged, on the CPU, in float64 from float32 weights: peers/trl_grpo_update.py, peers/trl_ppo_update.py. Running the tests
needs no Python.
"""

import importlib, importlib.metadata, sys

sys.dont_write_bytecode = True
WANTED = {"grpo": "1.16.0", "ppo": "1.12.0"}

for part in sys.argv[1:] or list(WANTED):
    found = importlib.metadata.version("trl")
    if found != WANTED[part]:
        sys.exit(f"trl is {found}; the {part} goldens are of {WANTED[part]}")
    importlib.import_module(f"peers.trl_{part}_update").main()
