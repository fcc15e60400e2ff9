#!/usr/bin/env python3
"""What TRL's own reward functions give (trl.rewards, with math-verify for answers): test/golden/peers/reward_functions.json.

    python -m venv VENV && . VENV/bin/activate
    pip install torch==2.15.0 transformers==5.24.0 datasets accelerate trl==1.16.0 math-verify==0.9.0 latex2sympy2_extended==1.11.0 antlr4-python3-runtime==4.13.2
    python scripts/goldens/make_reward_function_goldens.py
"""

import importlib.metadata, json, os, random

from trl import rewards

FILE = os.path.join(os.path.dirname(__file__), "../../test/golden/peers/reward_functions.json")

# Reference and what stands in the box of a completion.
ANSWERS = [
    (r"\frac{1}{3}", r"\frac{1}{3}"), (r"\frac{1}{3}", r"\frac{1}{2}"), (r"\frac{1}{2}", "0.5"), (r"\frac12", r"\frac{2}{4}"), ("0.25", r"\dfrac14"),
    ("1,000", "1000"), ("1000", "1{,}000"), ("1,234,567", "1234567"), ("-5", "5"), ("-5", "-5.0"), (r"50\%", "0.5"), (r"50\%", "50"), ("10", r"10\%"),
    (r"\sqrt{8}", r"2\sqrt{2}"), (r"\sqrt{2}", "1.414"), (r"\frac{2}{\sqrt2}", r"\sqrt{2}"), (r"\pi", "3.14"), (r"2\pi", r"\pi+\pi"), ("1/3", "0.3333"),
    ("x+y", "y+x"), ("(x+1)^2", "x^2+2x+1"), (r"x^2-1", "(x-1)(x+1)"), ("x^2", "x^3"), (r"\frac{x}{2}", "0.5x"), (r"2x+1", "1+2x"), ("a", "b"),
    ("(1,2)", "(1, 2)"), ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), (r"[0,1)", r"[0,1)"), (r"(-\infty,3)", r"(-\infty, 3)"), (r"(1,2)\cup(3,4)", r"(1,2)\cup (3,4)"),
    (r"\{1,2\}", r"\{2,1\}"), (r"\{1,2,3\}", r"\{1,2\}"), ("1,2", "2,1"), ("x=5", "5"), ("5", "x=5"), (r"90^\circ", "90"), (r"5\text{ cm}", "5"), ("12", r"12\text{ apples}"),
    (r"\$12", "12"), (r"3\frac{1}{2}", "3.5"), ("10^3", "1000"), (r"2\cdot10^3", "2000"), (r"2 \times 3", "6"), (r"\log_2 8", "3"), (r"\sin\frac{\pi}{2}", "1"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    ("3+4i", "4i+3"), ("7!", "5040"), (r"|{-3}|", "3"), ("1.0", "1"), ("0.1", "0.10"), ("100", "100."), ("x>3", "x > 3"), ("x>3", "x<3"), (r"\frac{3}{4}", "0.75"),
    ("42", "forty-two"), ("42", ""), ("2", "2, 3"), ("0", r"\emptyset"), ("-0", "0"), (r"\frac{-1}{2}", r"-\frac{1}{2}"), ("e", "2.718281828"), ("y=2x+3", "y=3+2x"),
    ("1e3", "1000"), (r"5\text{ cm}", r"5\text{ m}"), ("1/3", "0.333333"),
]  # fmt: skip

# Where we decide otherwise, and why.
DIFFERS = {
    (r"5\text{ cm}", r"5\text{ m}"): "another unit is another answer",
    ("0.25", r"\dfrac14"): "a fraction without braces, which TRL's parser does not know in display style",
    ("100", "100."): "a number that ends in its point",
    ("1e3", "1000"): "a typed exponent, which is read as e times 3 there",
}

FORMATS = [
    "<think>\nThis is my reasoning.\n</think>\nThis is my answer.", "<think>\nThis is my reasoning.\nThis is my answer.", "<think></think>", "<think>a</think>b",
    " <think>a</think>b", "a<think>b</think>", "<think>a<think>b</think>c", "<think>a</think><think>b</think>", "</think><think>", "", "<think>a</think>b</think>c",
]  # fmt: skip
FORMAT_DIFFERS = {"<think>a</think>b</think>c": "exactly one </think>"}


def chat(text):
    return [{"role": "assistant", "content": text}]


def accuracy():
    cases = []
    for solution, answer in ANSWERS:
        completion = rf"So the answer is \boxed{{{answer}}}."
        # A bare solution is put between dollars, as TRL's data sets have them.
        value = rewards.accuracy_reward([chat(completion)], [f"${solution}$"])[0]
        cases.append({"solution": f"${solution}$", "completion": completion, "value": value, **differs(DIFFERS, (solution, answer))})
    return cases


def differs(table, key):
    return {"differs": table[key]} if key in table else {}


def main():
    rng = random.Random(20261129)
    lists = [[rng.randrange(k) for _ in range(n)] for n in (0, 1, 2, 5, 40, 200) for k in (1, 3, 20)]
    box = r"\boxed{3}"
    reasoning = [f"<think>a</think> {box}", f"<think>{box}</think> no", f"<think>{box}", f"</think>{box}</think>", box, f"a</think>b</think>{box}"]
    lengths = [0, 1, 25, 50, 79, 80, 81, 90, 99, 100, 101, 500]
    ids = [[1] * n for n in lengths]
    cosine = rewards.get_cosine_scaled_reward(max_len=100)
    goldens = {
        "versions": {p: importlib.metadata.version(p) for p in ("trl", "math-verify", "latex2sympy2_extended")},
        "accuracy": accuracy(),
        "format": [
            {"completion": t, "value": rewards.think_format_reward([chat(t)])[0], **differs(FORMAT_DIFFERS, t)} for t in FORMATS
        ],
        "reasoning": [{"completion": t, "value": rewards.reasoning_accuracy_reward([chat(t)], ["$3$"])[0]} for t in reasoning],
        "lengths": lengths,
        "overlong": [
            {"max": m, "cache": c, "values": rewards.get_soft_overlong_punishment(m, c)(ids)} for m, c in ((100, 20), (100, 100), (50, 0), (80, 1))
        ],
        "cosine": {
            "right": cosine([chat(r"\boxed{1}")] * len(ids), ["$1$"] * len(ids), ids),
            "wrong": cosine([chat(r"\boxed{2}")] * len(ids), ["$1$"] * len(ids), ids),
        },
        "tokens": lists,
        "repetition": [
            {"size": n, "penalty": p, "values": rewards.get_repetition_penalty_reward(n, p)(lists)} for n, p in ((1, -1.0), (2, -1.0), (3, -0.5), (8, -2.0))
        ],
    }  # fmt: skip
    with open(FILE, "w") as f:
        parts = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in goldens.items() if not isinstance(v, list) or not v or not isinstance(v[0], dict)]
        parts += [
            f"{json.dumps(k)}: [\n" + ",\n".join("  " + json.dumps(c) for c in v) + "\n]" for k, v in goldens.items() if isinstance(v, list) and v and isinstance(v[0], dict)
        ]
        f.write("{\n" + ",\n".join(parts) + "\n}\n")


main()
