"""Shared by the golden makers: seeded inputs that are float32 numbers held as float64, and the form of the JSON files.

A file holds named input sets and cases. A case names its input set, our configuration (docs/losses.md), what the peer's own code returned
for it (loss, gradient by the logits or by the log-probs, metrics) and, where the peer means something else than we do, a sentence
`differs`.
"""

import importlib.metadata, json, math, os, platform, sys, types

import numpy, torch

SEED = 20261126
FOLDER = os.path.join(os.path.dirname(__file__), "../../../test/golden/peers")
VERSIONS = {"trl": "1.16.0", "verl": "0.9.1", "openrlhf": "0.11.2", "liger_kernel": "0.8.5"}


def f32(x):
    """The nearest float32, as float64: what the op under test is given, and what the peer computes from."""
    return x.to(torch.float32).to(torch.float64)


def generator(name):
    return torch.Generator().manual_seed(SEED + sum(map(ord, name)))


def randn(g, *shape):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def input_set(name, mask, V, advantages, truncated=None, spread=2.0, shift=0.4, unknown=()):
    """Logits, targets and log-probs of the old, reference and sampling policies around theirs. `unknown`: NaN sampler positions."""
    g = generator(name)
    mask = torch.tensor(mask)
    B, T = mask.shape
    logits = f32(spread * randn(g, B, T, V))
    targets = torch.randint(0, V - 1, (B, T), generator=g)  # V - 1 is the end token: see ends()
    ends(targets, mask, V - 1, truncated)
    logps = torch.log_softmax(logits, -1).gather(-1, targets[..., None])[..., 0]
    old = f32(torch.clamp(logps + shift * randn(g, B, T), max=-1e-3))
    sampler = f32(old + 0.3 * randn(g, B, T))
    for i, t in unknown:
        sampler[i, t] = math.nan
    given = {
        "logits": logits,
        "targets": targets,
        "mask": mask,
        "advantages": f32(torch.tensor(advantages, dtype=torch.float64)),
        "tokenAdvantages": f32(randn(g, B, T)),
        "logps": f32(logps),
        "oldLogps": old,
        "refLogps": f32(torch.clamp(logps + 0.5 * randn(g, B, T), max=-1e-3)),
        "samplerLogps": sampler,
        "entropies": f32(entropy(logits)),
    }
    if truncated:
        given["truncated"] = torch.tensor(truncated)
    return given


def ends(targets, mask, end, truncated):
    """Complete sequences end with the end token, truncated ones do not: that is how TRL tells them apart."""
    for i in range(mask.shape[0]):
        if mask[i].any() and not (truncated and truncated[i]):
            targets[i, int(mask[i].nonzero().max())] = end


def entropy(logits):
    logp = torch.log_softmax(logits, -1)
    return -(logp.exp() * logp).sum(-1)


def plain(x):
    """JSON has no NaN: null."""
    if isinstance(x, torch.Tensor):
        x = x.detach().flatten().tolist()
    if isinstance(x, numpy.ndarray):
        x = x.flatten().tolist()
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items() if v is not None}
    return None if isinstance(x, float) and math.isnan(x) else x


def sets_to_json(sets, names):
    return {
        k: {"shape": list(s["mask"].shape) + [s["logits"].shape[-1]], **{n: plain(s[n]) for n in names if n in s}} for k, s in sets.items()
    }


def write(file, source, package, cases, inputs=None, note=None):
    """One case a line, so that a difference is read in a diff."""
    packages = ", ".join(f"{p} {importlib.metadata.version(p.replace('_', '-'))}" for p in package.split())
    provenance = {
        "source": source,
        "package": packages,
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
        "script": "scripts/goldens/make_peer_goldens.py",
        "seed": SEED,
        **({"note": note} if note else {}),
    }
    lines = [f'"provenance": {json.dumps(provenance)}']
    if inputs:
        lines.append(
            '"inputs": {\n%s\n}' % ",\n".join(f"{json.dumps(k)}: {json.dumps(plain(v), allow_nan=False)}" for k, v in inputs.items())
        )
    lines.append('"cases": [\n%s\n]' % ",\n".join(json.dumps(plain(c), allow_nan=False) for c in cases))
    with open(os.path.join(FOLDER, file), "w") as out:
        out.write("{\n%s\n}\n" % ",\n".join(lines))
    size = os.path.getsize(os.path.join(FOLDER, file)) // 1024
    print(f"{file}: {len(cases)} cases, {sum('differs' in c for c in cases)} of them differ, {size} KiB", file=sys.stderr)


def shell(name):
    """A package without its __init__ (which would import serving engines and clusters), whose modules import as usual."""
    parent, _, _ = name.rpartition(".")
    if parent and parent not in sys.modules:
        shell(parent)
    if name in sys.modules:
        return sys.modules[name]
    if parent:
        path = [os.path.join(p, name.rsplit(".", 1)[1]) for p in sys.modules[parent].__path__]
    else:
        path = list(importlib.util.find_spec(name).submodule_search_locations)
    module = types.ModuleType(name)
    module.__path__ = path
    sys.modules[name] = module
    return module


def stub(name, **attributes):
    """A module that is imported but computes nothing here."""
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def check_versions():
    """Other versions may mean other formulas."""
    for package, wanted in VERSIONS.items():
        found = importlib.metadata.version(package.replace("_", "-"))
        if found != wanted:
            sys.exit(f"{package} is {found}; these goldens are of {wanted}")
