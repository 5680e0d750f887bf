#!/usr/bin/env python3
"""graphc beside its peers on this machine, in one run, taking turns. Prints a table with the ratios.

usage: peers.py GRAPHC [--mnist IDX_DIR] [--threads 2] [--rounds 5]

The peers come from PyPI into an environment of their own:
  python3 -m venv build/peers && build/peers/bin/pip install numpy onnx onnxruntime torch
  build/peers/bin/python tests/bench/peers.py build/bin/graphc --mnist ../shared/data/mnist
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"


def output(*command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def figure(text, name):
    return float(re.search(rf"{name}=([0-9.]+)", text).group(1))


def row(what, ours, theirs, peer, unit):
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print(f"{what:<44} {ours:10.3f} {unit:<3} {theirs:10.3f} {unit:<3} {ours / theirs:6.2f}  {peer}", flush=True)


def resnet(graphc, threads, rounds, batch):
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(figure(output(sys.executable, HERE / "resnet50_ort.py", "--threads", threads, "--batch", batch, "--repeat", 30), "median_ms"))
        ours.append(json.loads(output(graphc, "bench", EXAMPLES / "resnet50.graph", "--set", f"N={batch}", "--threads", threads, "--repeat", 30, "--json"))["median_ms"])
    row(f"ResNet-50, batch {batch}, inference", ours, theirs, "ONNX Runtime", "ms")


def mnist(graphc, data, threads, rounds):
    """Whole epochs; ours ends with a validation on the test set, PyTorch's doesn't."""
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(figure(output(sys.executable, HERE / "mnist_pytorch.py", data, "--threads", threads, "--epochs", 1), "median_epoch_s"))
        text = output(graphc, "train", EXAMPLES / "mnist_cnn.graph", "--data", f"idx:{data}", "--epochs", 1, "--threads", threads)
        ours.append(float(re.search(r"([0-9.]+) s$", text.strip()).group(1)))
    row("mnist_cnn, an epoch, batch 64 (ours validates)", ours, theirs, "PyTorch eager", "s")


def commands(graphc):
    for what, command in [("graphc check gpt2", ["check", EXAMPLES / "gpt2.graph"]),
                          ("graphc compile resnet50", ["compile", EXAMPLES / "resnet50.graph", "-o", "/dev/shm/resnet50.gcx"])]:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            output(graphc, *command)
            seconds.append(time.perf_counter() - start)
        print(f"{what:<44} {statistics.median(seconds):10.3f} s")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("graphc")
    p.add_argument("--mnist")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print(f"{cpu.group(1) if cpu else 'unknown cpu'}, {a.threads} threads, median of {a.rounds} rounds")
    print(f"{'':<44} {'graphc':>10}     {'peer':>10}      ratio")
    commands(a.graphc)
    resnet(a.graphc, a.threads, a.rounds, 1)
    if a.mnist:
        mnist(a.graphc, a.mnist, a.threads, a.rounds)


if __name__ == "__main__":
    main()
