#!/usr/bin/env python3
"""What a user may rely on when training is interrupted, run through the program itself.

usage: resume_test.py GRAPHC MODEL.graph TEST...     TEST: threads | resume | kill | artefact | flips

threads   two trainings with one seed, on 1 and on 2 threads: bit-identical checkpoints; another seed: others
resume    a run of 2 + 2 epochs gives the weights of one of 4
kill      kill -9 at random points (10; 200 with GRAPHC_LONG_TESTS set), resume until done: the weights of an uninterrupted run
artefact  two cold compilations give byte-identical .gcx, for inference and with --train
flips     100 bit flips and 20 truncations each of a .gcx and of a checkpoint: exit code 1 and a message, never a crash
"""
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

DATA = "shapes:768,seed=3"


def tensors(path):
    """Names and raw bytes of a safetensors file: what has to be equal (the metadata may hold times or paths)."""
    raw = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    base = 8 + size
    return {name: (t["dtype"], t["shape"], raw[base + t["data_offsets"][0] : base + t["data_offsets"][1]]) for name, t in header.items()}


class Training:
    def __init__(self, graphc, model, folder):
        self.graphc, self.model, self.folder = graphc, model, pathlib.Path(folder)

    def command(self, name, *more, epochs=2, seed=0, threads=2):
        return [self.graphc, "train", self.model, "--data", DATA, "--epochs", str(epochs), "--batch", "32", "--seed", str(seed), "--threads",
                str(threads), "--checkpoint", str(self.folder / name), *more]

    def run(self, name, *more, **options):
        p = subprocess.run(self.command(name, *more, **options), capture_output=True, text=True, timeout=300)
        assert p.returncode == 0, f"exit code {p.returncode}\n{p.stdout}\n{p.stderr}"
        return self.weights(name)

    def weights(self, name):
        return tensors(self.folder / name / "last.safetensors")


def same(a, b):
    assert a.keys() == b.keys() and len(a) > 2, f"{sorted(a)} and {sorted(b)}"
    different = [name for name in a if a[name] != b[name]]
    assert not different, f"these tensors differ: {different}"


def test_threads(t):
    one, two, other = t.run("one", threads=1), t.run("two", threads=2), t.run("other", seed=1)
    same(one, two)
    assert any(one[k] != other[k] for k in one), "the seed changes nothing"


def test_resume(t):
    whole = t.run("whole", epochs=4)
    t.run("parts", epochs=2)
    same(whole, t.run("parts", "--resume", epochs=4))


def test_kill(t):
    rounds = 200 if os.environ.get("GRAPHC_LONG_TESTS") else 10
    start = time.monotonic()
    whole = t.run("whole", epochs=3)
    duration = time.monotonic() - start
    rng = random.Random(os.environ.get("GRAPHC_TEST_SEED", "0"))
    kills = 0
    while kills < rounds:
        shutil.rmtree(t.folder / "killed", ignore_errors=True)
        finished = False
        for _ in range(4):  # up to four kills in one training
            more = ["--resume"] if (t.folder / "killed" / "last.safetensors").exists() else []
            p = subprocess.Popen(t.command("killed", *more, epochs=3), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                p.wait(timeout=rng.uniform(0.05, 1.0) * duration)
                assert p.returncode == 0, p.stderr.read()
                finished = True
                break
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGKILL)
                p.wait()
                kills += 1
        if not finished:
            more = ["--resume"] if (t.folder / "killed" / "last.safetensors").exists() else []
            t.run("killed", *more, epochs=3)
        same(whole, t.weights("killed"))
    print(f"{kills} kills survived")


def test_artefact(t):
    for flags in ([], ["--train"], ["--set", "N=4"]):
        for name in ("a.gcx", "b.gcx"):
            subprocess.run([t.graphc, "compile", t.model, *flags, "-o", str(t.folder / name)], check=True, timeout=300)
        a, b = ((t.folder / n).read_bytes() for n in ("a.gcx", "b.gcx"))
        assert a == b and len(a) > 1000, f"two compilations {flags} differ"


def test_flips(t):
    t.run("ok", epochs=1)
    gcx = t.folder / "net.gcx"
    subprocess.run([t.graphc, "compile", t.model, "-o", str(gcx)], check=True, timeout=300)
    checkpoint = t.folder / "ok" / "last.safetensors"
    rng = random.Random(1)

    def refuse(original, damaged, command):
        p = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert p.returncode == 1, f"exit code {p.returncode} for a damaged {original.name}: {p.stdout} {p.stderr}"
        assert damaged.name in p.stderr, f"the message doesn't name the file: {p.stderr}"

    for original in (gcx, checkpoint):
        good = original.read_bytes()
        damaged = t.folder / f"damaged{original.suffix}"
        command = ([t.graphc, "run", str(damaged), "--input", "image=random", "--set", "N=1"] if original == gcx else
                   [t.graphc, "eval", t.model, "--data", "shapes:32", "--weights", str(damaged)])
        for k in range(120):
            bad = bytearray(good)
            if k < 100:
                bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            else:
                del bad[rng.randrange(len(bad)):]
            damaged.write_bytes(bad)
            refuse(original, damaged, command)
        damaged.write_bytes(good)
        p = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert p.returncode == 0, f"the undamaged file is refused as well: {p.stderr}"


def main():
    graphc, model = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:3])
    for name in sys.argv[3:]:
        with tempfile.TemporaryDirectory() as folder:
            globals()[f"test_{name}"](Training(graphc, model, folder))
        print(f"{name}: ok")


if __name__ == "__main__":
    main()
