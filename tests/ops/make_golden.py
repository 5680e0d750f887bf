#!/usr/bin/env python3
"""Writes golden.json: results (and gradients) of ops as PyTorch computes them in f64.

  python3 -m venv venv && venv/bin/pip install numpy torch && venv/bin/python tests/ops/make_golden.py

Cases are small; inputs are rounded to 3 decimals so that the file holds them exactly.
"""
import json
import os

import numpy as np
import torch
import torch.nn.functional as F

rng = np.random.default_rng(0)
cases = []


def tensor(*shape, lo=-2.0, hi=2.0):
    return torch.tensor(np.round(rng.uniform(lo, hi, shape), 3), dtype=torch.float64)


def ids(n, *shape, dtype=torch.int32):
    return torch.tensor(rng.integers(0, n, shape), dtype=dtype)


DTYPES = {torch.float64: "f64", torch.int32: "i32", torch.int64: "i64", torch.bool: "bool", torch.uint8: "u8",
          torch.int8: "i8"}


def number(x):
    if isinstance(x, bool):
        return int(x)
    if isinstance(x, int):
        return x
    if x != x:
        return "nan"
    if x in (float("inf"), float("-inf")):
        return "inf" if x > 0 else "-inf"
    return float("%.15g" % x)


def pack(t):
    return {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data": [number(v) for v in t.detach().reshape(-1).tolist()]}


def case(op, operands, f, grad=True, **attrs):
    """f takes the operands and gives a tensor or several; grad: also gradients of sum(result * cotangent)."""
    xs = [x.clone().requires_grad_(grad and x.dtype == torch.float64) for x in operands]
    ys = f(*xs)
    ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
    c = {"op": op, "operands": [pack(x) for x in operands], "attrs": {k.rstrip("_"): v for k, v in attrs.items()},
         "results": [pack(y) for y in ys]}
    if grad:
        dys = [tensor(*y.shape) for y in ys]
        total = sum((y * dy).sum() for y, dy in zip(ys, dys))
        leaves = [x for x in xs if x.requires_grad]
        gs = iter(torch.autograd.grad(total, leaves, allow_unused=True))
        c["cotangents"] = [pack(d) for d in dys]
        c["grads"] = []
        for x in xs:
            g = next(gs) if x.requires_grad else None
            c["grads"].append(None if g is None else pack(g))
    cases.append(c)


# --- elementwise ---
nan, inf = float("nan"), float("inf")
odd = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1.5, 2.5, 30.0, -30.0, inf, -inf, nan], dtype=torch.float64)
for name in "neg abs sign exp expm1 log log1p sqrt rsqrt sin cos tan tanh erf floor ceil round sigmoid relu square reciprocal".split():
    case(name, [odd[:-1] if name == "sign" else odd], getattr(torch, name), grad=False)  # PyTorch's sign(NaN) is 0, ours NaN
    case(name, [tensor(2, 3, lo=0.2, hi=3)], getattr(torch, name))
for name, f in [("silu", F.silu), ("selu", F.selu), ("hardswish", F.hardswish), ("elu", F.elu)]:
    case(name, [tensor(3, 4, lo=-5, hi=5)], f)
case("hardsigmoid", [tensor(3, 4, lo=-5, hi=5)], F.hardsigmoid, grad=False)  # PyTorch's gradient has 1/6 in f32 only
case("elu", [tensor(5)], lambda x: F.elu(x, 0.3), alpha=0.3)
case("leaky_relu", [tensor(6)], F.leaky_relu)
case("leaky_relu", [tensor(6)], lambda x: F.leaky_relu(x, 0.2), slope=0.2)
case("gelu", [tensor(7, lo=-4, hi=4)], F.gelu)
case("gelu", [tensor(7, lo=-4, hi=4)], lambda x: F.gelu(x, approximate="tanh"), approx="tanh")
case("prelu", [tensor(2, 3, 2), tensor(3, 1)], lambda x, w: torch.where(x > 0, x, w * x))
case("clamp", [tensor(9)], lambda x: torch.clamp(x, -0.5, 1), min=-0.5, max=1)
case("clamp", [tensor(9)], lambda x: torch.clamp(x, min=0.25), min=0.25)
pair = [tensor(2, 1, 3, lo=0.3, hi=3), tensor(4, 1, lo=0.3, hi=3)]
for name, f in [("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", torch.div), ("maximum", torch.maximum),
                ("minimum", torch.minimum), ("pow", torch.pow), ("atan2", torch.atan2), ("rem", torch.remainder),
                ("floor_div", torch.floor_divide)]:
    case(name, pair, f, grad=name not in ("rem", "floor_div"))
signed = [tensor(12, lo=-5, hi=5), tensor(12, lo=-3, hi=3)]
case("rem", signed, torch.remainder, grad=False)
case("floor_div", signed, torch.floor_divide, grad=False)
i7 = [torch.tensor([7, -7, 7, -7, 6, -6], dtype=torch.int32), torch.tensor([2, 2, -2, -2, 3, 3], dtype=torch.int32)]
for name, f in [("floor_div", torch.floor_divide), ("rem", torch.remainder), ("and", torch.bitwise_and), ("or", torch.bitwise_or),
                ("xor", torch.bitwise_xor), ("mul", torch.mul), ("lt", torch.lt), ("eq", torch.eq)]:
    case(name, i7, f, grad=False)
for name in "eq ne lt le gt ge".split():
    case(name, [odd, torch.flip(odd, [0])], getattr(torch, name), grad=False)
case("add", [torch.tensor([120, -128], dtype=torch.int8), torch.tensor([10, -1], dtype=torch.int8)], torch.add, grad=False)
case("maximum", [odd, torch.flip(odd, [0])], torch.maximum, grad=False)
case("minimum", [odd, torch.flip(odd, [0])], torch.minimum, grad=False)
case("where", [tensor(2, 3) > 0, tensor(2, 3), tensor(3)], torch.where)
case("is_nan", [odd], torch.isnan, grad=False)

# --- movement ---
x34 = tensor(2, 3, 4)
case("transpose", [x34], lambda x: x.permute(2, 0, 1), perm=[2, 0, -2])
case("slice", [x34], lambda x: x[:, :, 1:4:2], axis=-1, start=1, stop=4, step=2)
case("slice", [x34], lambda x: x[:, 1:2], axis=1, start=-2, stop=-1)
case("concat", [tensor(2, 1), tensor(2, 3)], lambda a, b: torch.cat([a, b], 1), axis=1)
case("stack", [tensor(2, 3), tensor(2, 3)], lambda a, b: torch.stack([a, b], 1), axis=1)
case("pad", [tensor(2, 3)], lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), pads=[0, 1, 1, 2], value=0.5)
case("pad", [tensor(2, 3)], lambda x: F.pad(x, (-1, 1, 1, -1)), pads=[1, -1, -1, 1])
case("expand", [tensor(3, 1)], lambda x: x.expand(2, 3, 4), shape=[2, -1, 4])
case("reshape", [x34], lambda x: x.reshape(4, 6), shape=[4, -1])
case("flatten", [x34], lambda x: x.flatten(1))
case("flatten", [x34], lambda x: x.flatten(0, 1), from_=0, to=1)
case("split", [tensor(2, 6)], lambda x: torch.split(x, 2, 1), sections=3, axis=1)
case("split", [tensor(5, 2)], lambda x: torch.split(x, [1, 4], 0), sections=[1, 4])
case("gather", [tensor(5, 3), ids(5, 2, 2)], lambda t, i: t[i.long()], axis=0)
case("gather", [tensor(2, 5, 3), ids(5, 4)], lambda t, i: t[:, i.long()], axis=1)
case("embedding", [ids(5, 2, 3), tensor(5, 4)], lambda i, w: F.embedding(i, w))
case("scatter_add", [tensor(4, 2), torch.tensor([1, 3, 1], dtype=torch.int64), tensor(3, 2)],
     lambda x, i, s: x.index_add(0, i, s), axis=0)
case("one_hot", [ids(4, 2, 3)], lambda i: F.one_hot(i.long(), 4).double(), grad=False, n=4, dtype_="f64")
case("tril", [tensor(3, 4)], lambda x: torch.tril(x, 1), diagonal=1)
case("triu", [tensor(2, 4, 3)], lambda x: torch.triu(x, -1), diagonal=-1)
case("rearrange", [tensor(2, 3, 8)], lambda x: x.reshape(2, 3, 2, 4).permute(2, 0, 1, 3), pattern="n t (h e) -> h n t e", h=2)
case("rearrange", [tensor(2, 3, 4)], lambda x: x.permute(0, 2, 1).reshape(2, 12, 1), pattern="... a b -> ... (b a) 1")
case("select_index", [x34], lambda x: x[:, -1], index=-1, axis=1)

# --- reductions ---
for name, f in [("sum", torch.sum), ("mean", torch.mean), ("max", torch.amax), ("min", torch.amin), ("logsumexp", torch.logsumexp)]:
    case(name, [x34], lambda x: f(x, (0, 2)), axes=[0, 2])
    case(name, [x34], lambda x: f(x, (-1,), keepdim=True), axes=[-1], keepdims=True)
case("prod", [x34], lambda x: torch.prod(x, 1), axes=1)
for c in (0, 1):
    case("var", [x34], lambda x: torch.var(x, (1, 2), correction=c), axes=[1, 2], correction=c)
    case("std", [x34], lambda x: torch.std(x, (0,), correction=c, keepdim=True), axes=[0], correction=c, keepdims=True)
case("var", [x34], lambda x: torch.var(x))
case("argmax", [torch.tensor([[1, 3, 3], [nan, 1, nan], [2, 2, 1]], dtype=torch.float64)],
     lambda x: torch.argmax(x, 1).int(), grad=False)
case("max", [torch.tensor([[1, nan], [2, 3]], dtype=torch.float64)], lambda x: torch.amax(x, 1), grad=False, axes=1)
case("all", [tensor(3, 4) > -1], lambda x: torch.all(x, 1), grad=False, axes=1)
case("any", [tensor(3, 4) > 1], lambda x: torch.any(x, 1), grad=False, axes=1)

# --- contractions ---
case("matmul", [tensor(2, 3), tensor(3, 4)], torch.matmul)
case("matmul", [tensor(2, 1, 2, 3), tensor(4, 3, 2)], torch.matmul)
case("matmul", [tensor(3), tensor(2, 3, 2)], torch.matmul)
case("matmul", [tensor(2, 2, 3), tensor(3)], torch.matmul)
case("einsum", [tensor(2, 3, 4), tensor(5, 4)], lambda a, b: torch.einsum("ntd,vd->ntv", a, b), pattern="n t d, v d -> n t v")
case("einsum", [tensor(2, 3), tensor(2, 4), tensor(4, 3)], lambda a, b, c: torch.einsum("ij,ik,kj->i", a, b, c),
     pattern="ij,ik,kj->i")
case("conv1d", [tensor(2, 3, 7), tensor(4, 3, 3), tensor(4)], lambda x, w, b: F.conv1d(x, w, b, 2, 1), stride=2, pad=1)
case("conv2d", [tensor(2, 4, 6, 5), tensor(6, 2, 3, 2), tensor(6)],
     lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2), 2), stride=[2, 1], pad=[1, 0], dilation=[1, 2], groups=2)
case("conv2d", [tensor(1, 2, 4, 4), tensor(3, 2, 3, 3)], lambda x, w: F.conv2d(F.pad(x, (0, 1, 2, 0)), w), pad=[2, 0, 0, 1])
case("conv3d", [tensor(1, 2, 3, 4, 3), tensor(2, 2, 2, 2, 2)], lambda x, w: F.conv3d(x, w, padding=1), pad=1)
case("max_pool", [tensor(2, 2, 7, 6)], lambda x: F.max_pool2d(x, 3, 2, 1), window=3, stride=2, pad=1)
case("max_pool", [tensor(1, 2, 7)], lambda x: F.max_pool1d(x, 2, ceil_mode=True), window=2, ceil=True)
case("max_pool", [tensor(1, 2, 8, 8)], lambda x: F.max_pool2d(x, 3, 2, 1, 2, True), window=3, stride=2, pad=1, dilation=2, ceil=True)
for include in (False, True):
    case("avg_pool", [tensor(1, 2, 7, 5)], lambda x: F.avg_pool2d(x, 3, 2, 1, False, include), window=3, stride=2, pad=1,
         count_include_pad=include)
    case("avg_pool", [tensor(1, 2, 6, 7)], lambda x: F.avg_pool2d(x, 3, 2, 1, True, include), window=3, stride=2, pad=1,
         ceil=True, count_include_pad=include)
case("global_avg_pool", [tensor(2, 3, 4, 5)], lambda x: F.adaptive_avg_pool2d(x, 1))

# --- softmax, norms, attention ---
for axis in (1, -1):
    case("softmax", [x34], lambda x: F.softmax(x, axis), axis=axis)
    case("log_softmax", [x34], lambda x: F.log_softmax(x, axis), axis=axis)
case("softmax", [torch.tensor([1000.0, 1001.0, -1000.0], dtype=torch.float64)], lambda x: F.softmax(x, 0))
case("log_softmax", [torch.tensor([1000.0, 1001.0, -1000.0], dtype=torch.float64)], lambda x: F.log_softmax(x, 0))
case("layer_norm", [tensor(2, 3, 4), tensor(3, 4), tensor(3, 4)], lambda x, w, b: F.layer_norm(x, (3, 4), w, b), axis=1)
case("layer_norm", [tensor(2, 5)], lambda x: F.layer_norm(x, (5,), eps=0.1), eps=0.1)
case("rms_norm", [tensor(2, 5), tensor(5)], lambda x, w: F.rms_norm(x, (5,), w, eps=1e-6))
case("group_norm", [tensor(2, 4, 3), tensor(4), tensor(4)], lambda x, w, b: F.group_norm(x, 2, w, b), groups=2)
stats = [tensor(3), tensor(3, lo=0.5, hi=2)]
case("batch_norm", [tensor(2, 3, 4, 2)] + stats + [tensor(3), tensor(3)],
     lambda x, m, v, w, b: F.batch_norm(x, m.detach(), v.detach(), w, b, False))


def trained(x, m, v, w, b):
    m, v = m.detach().clone(), v.detach().clone()
    y = F.batch_norm(x, m, v, w, b, True, 0.3)  # changes m and v
    return y, m, v


case("batch_norm", [tensor(2, 3, 4, 2)] + stats + [tensor(3), tensor(3)], trained, training=True, momentum=0.3)
q, k, v = tensor(2, 2, 3, 4), tensor(2, 2, 5, 4), tensor(2, 2, 5, 3)
case("sdpa", [q, k, v], F.scaled_dot_product_attention)
case("sdpa", [q, k, v], lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), causal=True)
case("sdpa", [q, k, v, tensor(3, 5)], lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, scale=0.3), scale=0.3)
mask = tensor(3, 5) > -1
mask[:, 0] = True
case("sdpa", [q, k, v, mask], lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m))

# --- losses ---
labels = torch.tensor([2, 0, -100, 4, 1], dtype=torch.int64)
logits, w5 = tensor(5, 5), tensor(5, lo=0.2, hi=2)
case("cross_entropy", [logits, ids(5, 5)], lambda x, t: F.cross_entropy(x, t.long()))
case("cross_entropy", [logits, labels], F.cross_entropy)
case("cross_entropy", [logits, labels], lambda x, t: F.cross_entropy(x, t, label_smoothing=0.2), label_smoothing=0.2)
for s in (0.0, 0.1):
    w = w5.clone()
    case("cross_entropy", [logits, labels, w], lambda x, t, w: F.cross_entropy(x, t, w.detach(), label_smoothing=s), label_smoothing=s)
    probabilities = torch.softmax(tensor(5, 5), 1).round(decimals=3)
    case("cross_entropy", [logits, probabilities, w],
         lambda x, t, w: F.cross_entropy(x, t, w.detach(), label_smoothing=s), label_smoothing=s)
case("cross_entropy", [tensor(2, 3, 4), ids(3, 2, 4)], lambda x, t: F.cross_entropy(x, t.long()), axis=1)
case("cross_entropy", [tensor(2, 3), torch.tensor([1, 2])], lambda x, t: F.cross_entropy(x, t, ignore_index=1), ignore_index=1)
case("nll_loss", [logits, labels, w5.clone()], lambda x, t, w: F.nll_loss(x, t, w.detach()))
a, b = tensor(3, 4), tensor(3, 4)
case("mse", [a, b], F.mse_loss)
case("l1", [a, b], F.l1_loss)
case("huber", [a, b], lambda x, y: F.huber_loss(x, y, delta=0.7), delta=0.7)
case("smooth_l1", [a, b], lambda x, y: F.smooth_l1_loss(x, y, beta=0.7), beta=0.7)
p, t01 = tensor(3, 4, lo=0.1, hi=0.9), tensor(3, 4, lo=0, hi=1)
case("bce", [p, t01], F.binary_cross_entropy)
case("bce_with_logits", [a, t01], F.binary_cross_entropy_with_logits)
for beta in (1.0, 2.5):
    case("softplus", [tensor(3, 4, lo=-6, hi=6)], lambda x: F.softplus(x, beta), beta=beta)

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "golden.json"), "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), "cases")
