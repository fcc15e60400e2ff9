"""The same step in torch eager, torch.compile and Liger's Triton kernel, on the shapes that `gpu-check bench` has measured.

bench.py RESULTS.jsonl [SECONDS]: reads the shapes from RESULTS and appends lines to it; stops starting work after SECONDS.
"""

import json
import statistics
import sys
import time

STARTED = time.monotonic()


def left_out(why):
    print(f"bench.py: skipped, {why}")
    sys.exit(0)


try:
    import torch
except ImportError:
    left_out("torch is not installed")
if not torch.cuda.is_available():
    left_out("torch sees no CUDA device")


def step(logits, targets, old, advantages):
    """The clipped policy loss, from logits; the caller differentiates."""
    logps = torch.log_softmax(logits, -1).gather(-1, targets[:, None]).squeeze(-1).float()
    ratio = torch.exp(logps - old)
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()


def with_backward(function):
    def run(p):
        p["logits"].grad = None
        function(p["logits"], p["targets"], p["old"], p["advantages"]).backward()

    return run


def liger():
    try:
        from liger_kernel.transformers.grpo_loss import triton_grpo_loss
    except ImportError:
        return None

    def run(p):
        # one sequence; Liger leaves out the last position
        p["logits"].grad = None
        loss = triton_grpo_loss(
            logits=p["logits"][None],
            old_logp=p["old"][None, :-1],
            ref_logp=None,
            completion_ids=p["targets"][None, :-1],
            advantages=p["advantages"][:1],
            temperature=1.0,
            beta=0.0,
            eps_low=0.2,
            eps_high=0.2,
            inplace=True,
        )[0]
        loss.mean().backward()

    return run


def problem(dtype, rows, vocab):
    generator = torch.Generator("cuda").manual_seed(1)
    logits = torch.empty(rows, vocab, device="cuda", dtype=dtype)
    for part in logits.split(1024):  # no temporary of the whole size
        part.uniform_(-3, 3, generator=generator)
    return {
        "logits": logits.requires_grad_(),
        "targets": torch.randint(0, vocab, (rows,), device="cuda", generator=generator),
        "old": torch.full((rows,), -10.0, device="cuda"),
        "advantages": torch.randn(rows, device="cuda", generator=generator),
    }


def measure(run, p, repeats=10):
    for _ in range(2):
        run(p)
    times = []
    for _ in range(repeats):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run(p)
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def main():
    results = sys.argv[1]
    budget = float(sys.argv[2]) if len(sys.argv) > 2 else 70.0
    with open(results, encoding="utf-8") as file:
        own = [line for line in map(json.loads, file) if line.get("what") == "fused-grpo"]
    if not own:
        left_out("there are no shapes to compare with")
    ways = {"torch eager": with_backward(step), "torch.compile": with_backward(torch.compile(step, dynamic=False)), "liger": liger()}
    if ways["liger"] is None:
        print("bench.py: liger_kernel is not installed, left out")
        del ways["liger"]
    print(f"torch {torch.__version__}; median of 10, by CUDA events; loss and gradient")
    for name, run in ways.items():
        for shape in own:
            label = f"{name:14} {shape['dtype']:5} {shape['vocab']:7} {shape['rows']:6}"
            if time.monotonic() - STARTED > budget:
                print(f"{label}  not measured, out of time")
                continue
            try:
                p = problem({"bf16": torch.bfloat16, "f32": torch.float32}[shape["dtype"]], shape["rows"], shape["vocab"])
                ms = measure(run, p)
            except torch.cuda.OutOfMemoryError:
                print(f"{label}  out of memory")
                continue
            except Exception as error:  # another version's interface, no compiler for Triton
                print(f"{label}  not measured: {type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}")
                continue
            finally:
                p = None
                torch.cuda.empty_cache()
            print(f"{label} {ms:9.3f} ms, {ms / shape['grpo_ms']:.2f} x the fused kernel's time", flush=True)
            line = {"what": name, "device": shape["device"], "dtype": shape["dtype"], "vocab": shape["vocab"], "rows": shape["rows"], "ms": ms}
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


main()
