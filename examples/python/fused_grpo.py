"""GRPO's loss and log-probs on torch tensors, by libfused_grpo.so (ctypes, nothing is compiled).

Build the library with `npm run build:capi`; FUSED_GRPO_LIBRARY names another. CPU tensors need no more; tensors on a GPU need a library built
with CUDA. docs/embedding.md describes the C ABI.
"""

import ctypes
import os
from pathlib import Path

import torch

ABI_VERSION = 1
UNSET = -1.7976931348623157e308
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
LOSS_TYPES = "grpo bnpo dr_grpo dapo cispo sapo vespo luspo gmpo reinforce dppo clip_cov kl_cov".split()
#: Options that are names: the C ABI has their places in these lists.
CHOICES = {
    "loss_type": LOSS_TYPES,
    "importance_sampling_level": ["token", "sequence", "sequence_token"],
    "kl_estimator": ["k1", "k2", "k3"],
    "kl_gradient": ["estimator", "straight_through", "score_function"],
    "sampler_importance_sampling": ["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"],
    "dppo_divergence": ["tv", "kl"],
}

_TYPES = {"i": ctypes.c_int32, "u": ctypes.c_uint32, "q": ctypes.c_int64, "z": ctypes.c_size_t, "d": ctypes.c_double, "p": ctypes.c_void_p}


def _struct(name, fields):
    def type_of(code):
        return ctypes.c_char * int(code[1:]) if code[0] == "c" else _TYPES[code]

    pairs = [field.split(":") for field in ("struct_size:z " + fields).split()]
    return type(name, (ctypes.Structure,), {"_fields_": [(n, type_of(t)) for n, t in pairs]})


#: The structs of fused_grpo.h that are used here; a test compares them with the header's layout.
STRUCTS = {
    name: _struct(name, fields)
    for name, fields in {
        "fg_error": "status:i reserved:i index:q sequence:q token:q argument:c64 message:c512",
        "fg_exec": "threads:i reserved:i pool:p",
        "fg_layout": "rows:q sequences:q offsets:p mask:p",
        "fg_matrix": "data:p dtype:i reserved:i vocab:q row_stride:q sequence_stride:q",
        "fg_policy_batch": "layout:p truncated:p old_logps:p ref_logps:p sampler_logps:p advantages:p advantages_per_token:i reserved:i",
        "fg_metrics": "loss:d kl:d entropy:d clip_ratio_low:d clip_ratio_high:d ratio_min:d ratio_mean:d ratio_max:d tokens:q sequences:q",
        "fg_loss_options": "loss_type:i importance_sampling_level:i kl_estimator:i kl_gradient:i use_bias_correction_kl:i "
        "mask_truncated_completions:i exclude_empty_sequences:i sampler_importance_sampling:i dppo_divergence:i clip_cov_seed:u "
        "max_completion_length:q temperature:d epsilon:d epsilon_high:d delta:d dual_clip:d beta:d normalizer:d entropy_coef:d "
        "entropy_normalizer:d top_entropy_quantile:d entropy_threshold:d sampler_clip_min:d sampler_clip_max:d off_policy_mask_threshold:d "
        "sapo_temperature_pos:d sapo_temperature_neg:d vespo_k_pos:d vespo_lambda_pos:d vespo_k_neg:d vespo_lambda_neg:d dppo_ratio_max:d "
        "clip_cov_ratio:d clip_cov_low:d clip_cov_high:d kl_cov_ratio:d kl_cov_coef:d",
        "fg_selective_logp_args": "layout:p logits:p targets:p temperature:d logps:p lse:p entropies:p scratch:p scratch_bytes:z",
        "fg_selective_logp_backward_args": "layout:p logits:p grad:p targets:p temperature:d grad_logps:p grad_entropies:p scratch:p "
        "scratch_bytes:z",
        "fg_grpo_loss_args": "batch:p logits:p grad:p targets:p logps:p lse:p entropies:p entropy:i reserved:i metrics:p scratch:p scratch_bytes:z",
    }.items()
}
OPTIONS = [name for name, _ in STRUCTS["fg_loss_options"]._fields_ if name != "struct_size"]


class FusedGrpoError(ValueError):
    """What the library refused. `status`: FG_INVALID_ARG and so on; `argument`: the field."""

    def __init__(self, status, message, argument=""):
        super().__init__(message)
        self.status, self.argument = status, argument


def _load():
    here = Path(__file__).resolve()
    file = os.environ.get("FUSED_GRPO_LIBRARY") or str(here.parents[2] / "build-capi" / "libfused_grpo.so")
    library = ctypes.CDLL(file)
    if library.fg_abi_version() != ABI_VERSION:
        raise ImportError(f"{file} has ABI version {library.fg_abi_version()}; this module knows {ABI_VERSION}")
    library.fg_status_name.restype = ctypes.c_char_p
    library.fg_pool_destroy.argtypes = [ctypes.c_void_p]
    return library


LIBRARY = _load()
_pools = {}
os.register_at_fork(after_in_child=_pools.clear)  # a child has none of its parent's threads


def _make(name, **values):
    struct = STRUCTS[name]()
    status = getattr(LIBRARY, f"{name}_init")(ctypes.byref(struct), ctypes.c_size_t(ctypes.sizeof(struct)))
    if status != 0:
        raise FusedGrpoError(_status(status), f"{name}_init: the library has another layout of it")
    kept = []
    for field, value in values.items():
        if isinstance(value, torch.Tensor):
            value = value.data_ptr()
        elif isinstance(value, ctypes.Structure):
            kept.append(value)
            value = ctypes.addressof(value)
        setattr(struct, field, value)
    struct.kept = kept  # lives as long as what points to it
    return struct


def _status(status):
    return LIBRARY.fg_status_name(status).decode()


def _call(name, *arguments):
    error = _make("fg_error")
    status = getattr(LIBRARY, name)(*(a if a is None or isinstance(a, ctypes.c_void_p) else ctypes.byref(a) for a in arguments), ctypes.byref(error))
    if status != 0:
        raise FusedGrpoError(_status(status), error.message.decode(), error.argument.decode())


def _exec():
    """As many threads as torch uses; they sleep between calls."""
    threads = torch.get_num_threads()
    if threads not in _pools:
        pool = ctypes.c_void_p()
        error = _make("fg_error")
        if LIBRARY.fg_pool_create(ctypes.c_int32(threads), ctypes.byref(pool), ctypes.byref(error)) != 0:
            raise FusedGrpoError(_status(error.status), error.message.decode())
        _pools[threads] = pool
    return _make("fg_exec", pool=_pools[threads].value)


def _run(op, args, rows, device, *options):
    """Calls the op where the tensors are: by threads on the CPU, on torch's current stream on a GPU."""
    needed = ctypes.c_size_t()
    if device.type == "cpu":
        _call(f"fg_{op}_scratch", args, needed)
    else:
        error = _make("fg_error")
        if LIBRARY.fg_cuda_scratch(ctypes.c_int64(rows), ctypes.byref(needed), ctypes.byref(error)) != 0:
            raise FusedGrpoError(_status(error.status), error.message.decode())
    scratch = torch.empty(needed.value + 16, dtype=torch.uint8, device=device)
    args.scratch, args.scratch_bytes = scratch.data_ptr() + -scratch.data_ptr() % 16, needed.value
    if device.type == "cpu":
        return _call(f"fg_{op}", args, *options, _exec())
    with torch.cuda.device(device):
        return _call(f"fg_{op}_cuda", args, *options, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))


class _Rows:
    """Logits (N, V), (B, T, V), or (B, T + 1, V) whose last row of each sequence predicts nothing, beside targets (N) or (B, T)."""

    def __init__(self, logits, targets, mask):
        if logits.dtype not in DTYPES:
            raise TypeError(f"Expected float32, bfloat16 or float16 logits but received {logits.dtype}")
        if logits.dim() not in (2, 3) or targets.dim() != logits.dim() - 1 or targets.shape[0] != logits.shape[0]:
            raise ValueError(f"Expected logits (N, V) and targets (N), or (B, T, V) and (B, T), but received {tuple(logits.shape)}, {tuple(targets.shape)}")
        self.extra = 0 if logits.dim() == 2 else logits.shape[1] - targets.shape[1]
        if self.extra not in (0, 1):
            raise ValueError(f"Expected {targets.shape[1]} or one more rows of logits a sequence but received {logits.shape[1]}")
        if logits.stride(-1) != 1 or logits.stride(-2) < logits.shape[-1] or logits.stride(0) < logits.stride(-2):
            logits = logits.contiguous()
        self.logits, self.shape, self.device = logits, targets.shape, logits.device
        self.sequences, self.length = (1, targets.shape[0]) if logits.dim() == 2 else targets.shape
        self.targets = self.to(targets, torch.int32)
        self.mask = None if mask is None else self.to(mask != 0, torch.uint8)
        self.offsets = torch.arange(0, self.sequences + 1, dtype=torch.int32, device=self.device) * self.length
        self.layout = _make("fg_layout", rows=targets.numel(), sequences=self.sequences, offsets=self.offsets, mask=self.mask)

    def to(self, tensor, dtype):
        """A token-sized input as the library reads it."""
        return None if tensor is None else tensor.detach().to(self.device, dtype).contiguous()

    def floats(self, tensor, name):
        if tensor is not None and tensor.shape != self.shape:
            raise ValueError(f"Expected {name} of shape {tuple(self.shape)} but received {tuple(tensor.shape)}")
        return self.to(tensor, torch.float32)

    def matrix(self, tensor):
        sequence_stride = tensor.stride(0) if tensor.dim() == 3 and self.sequences > 1 else 0
        strides = {"row_stride": tensor.stride(-2), "sequence_stride": sequence_stride}
        return _make("fg_matrix", data=tensor, dtype=DTYPES[tensor.dtype], vocab=tensor.shape[-1], **strides)

    def empty(self):
        return torch.empty(self.shape, dtype=torch.float32, device=self.device)

    def gradient(self, in_place):
        grad = self.logits.detach() if in_place else torch.empty_like(self.logits, memory_format=torch.contiguous_format)
        return grad

    def clear_extra(self, grad):
        if self.extra:
            grad[:, -1].zero_()  # the row behind the last token


class _SelectiveLogp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, targets, mask, temperature, entropy):
        rows = _Rows(logits, targets, mask)
        logps, entropies = rows.empty(), rows.empty() if entropy else None
        args = {"layout": rows.layout, "logits": rows.matrix(rows.logits), "targets": rows.targets, "temperature": temperature}
        args = _make("fg_selective_logp_args", **args, logps=logps, entropies=entropies)
        _run("selective_logp", args, rows.targets.numel(), rows.device)
        ctx.save_for_backward(logits, targets, mask)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logps, entropies

    @staticmethod
    def backward(ctx, grad_logps, grad_entropies):
        logits, targets, mask = ctx.saved_tensors
        rows = _Rows(logits, targets, mask)
        grad = rows.gradient(in_place=False)
        by_logps = torch.zeros(rows.shape, device=rows.device) if grad_logps is None else rows.to(grad_logps, torch.float32)
        by_entropies = rows.to(grad_entropies, torch.float32)
        args = {"layout": rows.layout, "logits": rows.matrix(rows.logits), "grad": rows.matrix(grad), "targets": rows.targets}
        args = _make(
            "fg_selective_logp_backward_args", **args, temperature=ctx.temperature, grad_logps=by_logps, grad_entropies=by_entropies
        )
        _run("selective_logp_backward", args, rows.targets.numel(), rows.device)
        rows.clear_extra(grad)
        return grad, None, None, None, None


def selective_logp(logits, targets, mask=None, temperature=1.0, entropy=False):
    """Log-probs of the targets under softmax(logits / temperature), float32, differentiable by the logits; with `entropy` also (logps, entropies).

    logits (N, V), (B, T, V) or (B, T + 1, V); targets (N) or (B, T); mask of the targets' shape: what is 0 is not read, its results are 0.
    """
    logps, entropies = _SelectiveLogp.apply(logits, targets, mask, temperature, entropy)
    return (logps, entropies) if entropy else logps


def _options(options):
    values = {}
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(f"grpo_loss has no option '{name}'; there are {', '.join(OPTIONS)}")
        if value is not None:
            values[name] = CHOICES[name].index(value) if isinstance(value, str) else value
    return _make("fg_loss_options", **values)


class _GrpoLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, targets, advantages, mask, logps, options, in_place, out):
        rows = _Rows(logits, targets, mask)
        if in_place and rows.logits is not logits:
            raise ValueError("in_place needs logits whose rows are contiguous")
        per_token = advantages.dim() == targets.dim() and advantages.shape == targets.shape and targets.dim() > 1
        advantages = rows.to(advantages, torch.float32)
        if advantages.numel() != (targets.numel() if per_token else rows.sequences):
            raise ValueError(f"Expected {rows.sequences} advantages, or one per token, but received {tuple(advantages.shape)}")
        given = {name: rows.floats(value, name) for name, value in logps.items()}
        grad = rows.gradient(in_place) if logits.requires_grad else None
        results, entropies = rows.empty(), rows.empty()
        metrics = _make("fg_metrics")
        batch = _make("fg_policy_batch", layout=rows.layout, advantages=advantages, advantages_per_token=int(per_token), **given)
        matrices = {"logits": rows.matrix(rows.logits), "grad": None if grad is None else rows.matrix(grad)}
        args = _make("fg_grpo_loss_args", batch=batch, **matrices, targets=rows.targets, logps=results, entropies=entropies, metrics=metrics)
        _run("grpo_loss", args, rows.targets.numel(), rows.device, _options(options))
        if grad is not None:
            rows.clear_extra(grad)
        ctx.grad = grad
        out.update({name: getattr(metrics, name) for name, _ in metrics._fields_ if name != "struct_size"}, logps=results, entropies=entropies)
        return logits.new_tensor(metrics.loss, dtype=torch.float32)

    @staticmethod
    def backward(ctx, upstream):
        grad, ctx.grad = ctx.grad, None
        if grad is None:
            raise RuntimeError("grpo_loss made its gradient once, in the forward pass: it cannot be used twice")
        # 1 almost always; a product would read and write the whole gradient again
        return grad if upstream.item() == 1 else grad.mul_(upstream), None, None, None, None, None, None, None


def grpo_loss(logits, targets, advantages, mask=None, old_logps=None, ref_logps=None, sampler_logps=None, in_place=False, **options):
    """GRPO's loss, differentiable by the logits; its gradient is made in the same pass. Returns (loss, metrics).

    logits (B, T, V), or (B, T + 1, V) as models give them; targets, mask and log-probs (B, T); advantages (B) or (B, T). `in_place`: the
    gradient overwrites the logits, which nobody may need any more. options: those of TRL's GRPOConfig, by the names of OPTIONS; names as
    in TRL ('dapo', 'token'). metrics: means over the selected tokens, and logps and entropies (B, T).
    """
    metrics = {}
    logps = {"old_logps": old_logps, "ref_logps": ref_logps, "sampler_logps": sampler_logps}
    loss = _GrpoLoss.apply(logits, targets, advantages, mask, logps, options, in_place, metrics)
    return loss, metrics
