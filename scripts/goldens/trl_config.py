#!/usr/bin/env python3
"""Writes test/golden/trl_config.json: every field of TRL's GRPOConfig, its own and those of transformers' TrainingArguments.

    python -m venv V && V/bin/pip install --no-deps trl transformers
    V/bin/python scripts/goldens/trl_config.py

The sources are parsed, not imported: neither needs torch then.
"""
import ast, importlib.metadata, importlib.util, json, os

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


def class_of(package, path, name):
    file = os.path.join(importlib.util.find_spec(package).submodule_search_locations[0], path)
    return next(n for n in ast.parse(open(file).read()).body if isinstance(n, ast.ClassDef) and n.name == name)


def default_of(value):
    if isinstance(value, ast.Call):  # field(default=..., metadata=...)
        keywords = {k.arg: k.value for k in value.keywords}
        if "default_factory" in keywords:
            return "(made anew)"
        value = keywords["default"]
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ast.unparse(value)


def fields(node):
    return {s.target.id: {"type": ast.unparse(s.annotation), "default": default_of(s.value)}
            for s in node.body if isinstance(s, ast.AnnAssign) and s.value is not None and "ClassVar" not in ast.unparse(s.annotation)
            and not s.target.id.startswith("_")}


CHAIN = [("transformers", "training_args.py", "TrainingArguments"), ("trl", "trainer/base_config.py", "_BaseConfig"),
         ("trl", "trainer/grpo_config.py", "GRPOConfig")]
merged = {}
for package, path, name in CHAIN:
    for field, about in fields(class_of(package, path, name)).items():
        merged[field] = {**about, "from": merged[field]["from"] if field in merged and name == "_BaseConfig" else name}
versions = {p: importlib.metadata.version(p) for p in ("trl", "transformers")}
with open(os.path.join(ROOT, "test", "golden", "trl_config.json"), "w") as f:
    f.write(json.dumps({"script": "scripts/goldens/trl_config.py", "versions": versions}) [:-1] + ', "fields": {\n')
    f.write(",\n".join(f'  {json.dumps(name)}: {json.dumps(about)}' for name, about in merged.items()) + "\n}}\n")
print(len(merged), "fields", versions)
