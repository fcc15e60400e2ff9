#!/usr/bin/env python3
"""Numbers of other projects' own running code, in float64 where it allows: losses, gradients, advantages, value and preference losses.

    python -m venv VENV && . VENV/bin/activate
    pip install torch==2.15.0 transformers==5.24.0 datasets accelerate omegaconf
    pip install --no-deps trl==1.16.0 verl==0.9.1 openrlhf==0.11.2 liger-kernel==0.8.5
    python scripts/goldens/make_peer_goldens.py [trl|verl|openrlhf|liger|advantages|values ...]    # writes test/golden/peers/*.json

Their functions run unchanged. Where a package's __init__ wants a cluster or a serving engine, its modules are imported without it
(peers/common.py).
"""

import importlib, subprocess, sys

sys.dont_write_bytecode = True
from peers.common import check_versions

PARTS = ["trl", "verl", "openrlhf", "liger", "advantages", "values"]

check_versions()
parts = sys.argv[1:] or PARTS
if len(parts) == 1:
    importlib.import_module(f"peers.{parts[0]}").main()
else:  # each in its own process: what stands in for a module in one must not be met by another
    for part in parts:
        subprocess.run([sys.executable, __file__, part], check=True)
