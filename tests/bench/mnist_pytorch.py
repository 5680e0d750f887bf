#!/usr/bin/env python3
"""Peer of `graphc train examples/mnist_cnn.graph`: the same network, optimizer, batch and data in PyTorch eager.

usage: mnist_pytorch.py IDX_DIR [--threads 2] [--batch 64] [--epochs 1]
Prints one line an epoch, then `median_epoch_s=...`.
"""
import argparse
import gzip
import pathlib
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def read_idx(folder, stem):
    for name in (f"{stem}.gz", stem):
        path = pathlib.Path(folder) / name
        if path.exists():
            raw = gzip.open(path).read() if name.endswith(".gz") else path.read_bytes()
            rank = raw[3]
            shape = np.frombuffer(raw, ">i4", rank, 4)
            return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape).copy())
    raise SystemExit(f"no {stem}[.gz] in {folder}")


class Net(nn.Module):
    """examples/mnist_cnn.graph"""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(3136, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.dropout(F.relu(self.fc1(x.flatten(1))), 0.5, self.training))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("data")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--epochs", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    images = read_idx(a.data, "train-images-idx3-ubyte").float().div(255).unsqueeze(1)
    labels = read_idx(a.data, "train-labels-idx1-ubyte").long()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    seconds = []
    for epoch in range(a.epochs):
        start, order, total = time.perf_counter(), torch.randperm(len(images)), 0.0
        net.train()
        for b in range(0, len(images), a.batch):
            pick = order[b : b + a.batch]
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images[pick]), labels[pick])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(pick)
        seconds.append(time.perf_counter() - start)
        print(f"epoch {epoch + 1}/{a.epochs}  loss={total / len(images):.4f}  {seconds[-1]:.1f} s", flush=True)
    print(f"median_epoch_s={statistics.median(seconds):.2f} threads={a.threads} torch={torch.__version__}")


if __name__ == "__main__":
    main()
