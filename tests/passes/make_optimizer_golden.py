#!/usr/bin/env python3
"""Writes optimizer_golden.json beside this file: what PyTorch's optimizers, clipping and schedules make of two parameters, in f64.

usage: make_optimizer_golden.py        (needs torch; the test needs only the file)

The model is a linear layer with a loss in which both parameters matter: mean((x w + b - t)^2). Every case has its own data, six
steps, a batch of its own for each; the file holds the settings of `optimize` as graphc spells them, the data, and both
parameters after each step.
"""
import json
import pathlib

import torch

STEPS = 6


def sgd(**k):
    return lambda params: torch.optim.SGD(params, dampening=0, **k)


def adam(**k):
    return lambda params: torch.optim.Adam(params, **k)


def adamw(**k):
    return lambda params: torch.optim.AdamW(params, **k)


def cosine(steps, final=0.0):
    return lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=steps, eta_min=final)


def stepped(every, gamma):
    return lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=every, gamma=gamma)


def warm(warmup, then):
    def make(o):
        rise = torch.optim.lr_scheduler.LinearLR(o, start_factor=1 / warmup, end_factor=1.0, total_iters=warmup - 1)
        return torch.optim.lr_scheduler.SequentialLR(o, [rise, then(o)], milestones=[warmup])

    return make


# name, settings of optimize, the optimizer, and what else: clip, schedule, accumulate
CASES = [
    ("sgd", {"algorithm": "sgd", "lr": 0.1}, sgd(lr=0.1), {}),
    ("momentum", {"algorithm": "sgd", "lr": 0.1, "momentum": 0.9}, sgd(lr=0.1, momentum=0.9), {}),
    ("nesterov", {"algorithm": "sgd", "lr": 0.1, "momentum": 0.8, "nesterov": True}, sgd(lr=0.1, momentum=0.8, nesterov=True), {}),
    ("sgd_decay", {"algorithm": "sgd", "lr": 0.1, "weight_decay": 0.3}, sgd(lr=0.1, weight_decay=0.3), {}),
    (
        "nesterov_decay",
        {"algorithm": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        sgd(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        {},
    ),
    ("adam", {"algorithm": "adam", "lr": 0.05}, adam(lr=0.05), {}),
    (
        "adam_betas",
        {"algorithm": "adam", "lr": 0.05, "beta1": 0.7, "beta2": 0.9, "eps": 0.01},
        adam(lr=0.05, betas=(0.7, 0.9), eps=0.01),
        {},
    ),
    ("adam_decay", {"algorithm": "adam", "lr": 0.05, "weight_decay": 0.2}, adam(lr=0.05, weight_decay=0.2), {}),
    ("adamw", {"algorithm": "adamw", "lr": 0.05, "weight_decay": 0.2}, adamw(lr=0.05, weight_decay=0.2), {}),
    ("clip", {"algorithm": "sgd", "lr": 0.1, "clip_norm": 0.5}, sgd(lr=0.1), {"clip": 0.5}),
    ("clip_unneeded", {"algorithm": "sgd", "lr": 0.1, "clip_norm": 1000.0}, sgd(lr=0.1), {"clip": 1000.0}),
    (
        "clip_adamw",
        {"algorithm": "adamw", "lr": 0.05, "weight_decay": 0.1, "clip_norm": 0.5, "beta2": 0.95},
        adamw(lr=0.05, weight_decay=0.1, betas=(0.9, 0.95)),
        {"clip": 0.5},
    ),
    ("cosine", {"algorithm": "sgd", "lr": 0.1, "schedule": "cosine", "schedule_steps": 5}, sgd(lr=0.1), {"schedule": cosine(5)}),
    (
        "cosine_final",
        {"algorithm": "adam", "lr": 0.1, "schedule": "cosine", "schedule_steps": 8, "final": 0.02},
        adam(lr=0.1),
        {"schedule": cosine(8, 0.02)},
    ),
    (
        "step",
        {"algorithm": "sgd", "lr": 0.1, "momentum": 0.9, "schedule": "step", "every": 2, "gamma": 0.5},
        sgd(lr=0.1, momentum=0.9),
        {"schedule": stepped(2, 0.5)},
    ),
    (
        "warmup_cosine",
        {"algorithm": "sgd", "lr": 0.1, "schedule": "cosine", "schedule_steps": 9, "warmup": 3},
        sgd(lr=0.1),
        {"schedule": warm(3, cosine(6))},
    ),
    (
        "accumulate",
        {"algorithm": "adamw", "lr": 0.05, "weight_decay": 0.2, "accumulate": 2, "clip_norm": 0.5},
        adamw(lr=0.05, weight_decay=0.2),
        {"accumulate": 2, "clip": 0.5},
    ),
    (
        "accumulate_step",
        {"algorithm": "sgd", "lr": 0.1, "momentum": 0.9, "accumulate": 3, "schedule": "step", "every": 1, "gamma": 0.5},
        sgd(lr=0.1, momentum=0.9),
        {"accumulate": 3, "schedule": stepped(1, 0.5)},
    ),
]


def flat(t):
    return [float(f"{v:.14g}") for v in t.detach().reshape(-1).tolist()]


def number(*shape):
    """Random values of two decimals, so that the file holds them exactly."""
    return (torch.randn(*shape) * 100).round().double() / 100


def run(name, settings, make, clip=None, schedule=None, accumulate=1):
    w, b = number(4, 3).requires_grad_(), number(3).requires_grad_()
    case = {"name": name, "settings": settings, "w": flat(w), "b": flat(b), "x": [], "t": [], "w_after": [], "b_after": []}
    optimizer = make([w, b])
    scheduler = schedule(optimizer) if schedule else None
    for step in range(STEPS):
        x, t = number(5, 4), number(5, 3)
        case["x"].append(flat(x))
        case["t"].append(flat(t))
        loss = ((x @ w + b - t) ** 2).mean()
        (loss / accumulate).backward()
        if (step + 1) % accumulate == 0:
            if clip:
                torch.nn.utils.clip_grad_norm_([w, b], clip)
            optimizer.step()
            optimizer.zero_grad()
            if scheduler:
                scheduler.step()
        case["w_after"].append(flat(w))
        case["b_after"].append(flat(b))
    return case


def main():
    torch.manual_seed(5)
    cases = [run(name, settings, make, **more) for name, settings, make, more in CASES]
    path = pathlib.Path(__file__).parent / "optimizer_golden.json"
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    path.write_text(f'{{"torch": "{torch.__version__}", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
