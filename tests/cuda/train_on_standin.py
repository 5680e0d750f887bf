#!/usr/bin/env python3
"""Trains the quick start's network for 20 steps on the stand-in's card and in the reference: the losses must agree, with
the steps captured as a graph and (--sync) one by one, and two runs must leave the same bits.

usage: train_on_standin.py GRAPHC EXAMPLES STANDIN_LIBRARIES
"""
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def train(graphc, model, folder, env, *options):
    """The loss that is printed at the end, and the checkpoint's digest."""
    command = [graphc, "train", model, "--data", "shapes:512", "--batch", "16", "--steps", "20", "--checkpoint", folder, *options]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500)
    found = re.findall(r"loss=([0-9.]+)", done.stdout)
    if done.returncode != 0 or not found:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    if "standin:" in done.stdout:
        sys.exit(f"the stand-in complains:\n{done.stdout}")
    data = (pathlib.Path(folder) / "last.safetensors").read_bytes()
    return float(found[-1]), hashlib.sha256(data).hexdigest()


def main():
    graphc, examples, libraries = sys.argv[1:]
    model = str(pathlib.Path(examples) / "shapes.graph")
    card = dict(os.environ, GRAPHC_CUDA_LIBRARIES=libraries, STANDIN_NVRTC_CHECK="0")
    with tempfile.TemporaryDirectory() as scratch:
        reference, _ = train(graphc, model, f"{scratch}/reference", dict(os.environ), "--target", "reference")
        captured, bits = train(graphc, model, f"{scratch}/captured", card, "--target", "cuda")
        again, bits_again = train(graphc, model, f"{scratch}/again", card, "--target", "cuda")
        synced, bits_synced = train(graphc, model, f"{scratch}/synced", card, "--target", "cuda", "--sync")
    print(f"loss after 20 steps: reference {reference}, cuda {captured}, again {again}, with --sync {synced}")
    if abs(captured - reference) > 2e-3 * reference:
        sys.exit("the card's loss isn't the reference's")
    if not bits == bits_again == bits_synced:
        sys.exit("equal runs leave different checkpoints")
    return 0


if __name__ == "__main__":
    sys.exit(main())
