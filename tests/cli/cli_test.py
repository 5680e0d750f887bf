#!/usr/bin/env python3
"""graphc as its user meets it: every command, every kind of mistake, every file it reads and writes.

usage: cli_test.py GRAPHC EXAMPLES [NAME...]     runs test_NAME, or all
"""
import array
import gzip
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

GRAPHC = EXAMPLES = ""
COMMANDS = ["check", "fmt", "compile", "run", "bench", "train", "eval", "explain", "ops", "devices"]

SCALE = """graphc 1
model Scale[N](x: f32[N, 4]) -> (y: f32[N, 3], total: f32[N]) {
  y = x |> proj: Linear(3) |> relu
  total = sum(y, axes=[1])
  return y, total
}
train Scale {
  input target: f32[N, 3]
  loss = mean(square(y - target))
  optimizer = sgd(lr=0.1)
}
"""


class Skipped(Exception):
    """What a test needs isn't there; the exit code is 77 then, which ctest counts as skipped."""


# ---- helpers

def run(*args, timeout=120, program=None, **kw):
    """The program's exit code, standard output and standard error."""
    kw.setdefault("stdout", subprocess.PIPE)
    kw.setdefault("stderr", subprocess.PIPE)
    p = subprocess.run([program or GRAPHC, *map(str, args)], text=True, timeout=timeout, **kw)
    p.stdout, p.stderr = p.stdout or "", p.stderr or ""
    return p


def ok(*args, **kw):
    p = run(*args, **kw)
    assert p.returncode == 0, f"graphc {' '.join(map(str, args))}: exit code {p.returncode}\n{p.stdout}{p.stderr}"
    return p.stdout


def fails(code, *args, says=(), **kw):
    """The command ends with this exit code, prints nothing but an error, and the error holds the texts."""
    p = run(*args, **kw)
    line = f"graphc {' '.join(map(str, args))}"
    assert p.returncode == code, f"{line}: exit code {p.returncode}, not {code}\n{p.stdout}{p.stderr}"
    assert p.stderr.strip(), f"{line}: no message"
    assert "internal" not in p.stderr and "exception" not in p.stderr, f"{line}: {p.stderr}"
    for text in [says] if isinstance(says, str) else says:
        assert text in p.stderr, f"{line}: the message lacks '{text}'\n{p.stderr}"
    return p.stderr


def write(path, text):
    path = pathlib.Path(path)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


CODES = {"<f4": "f", "<f8": "d", "<i4": "i", "<i8": "q", "|u1": "B", "|i1": "b", "|b1": "B"}


def write_npy(path, shape, values, descr="<f4"):
    shape = tuple(shape)
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(11 + len(header)) % 64) + "\n"
    return write(path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + array.array(CODES[descr], values).tobytes())


def read_npy(path):
    raw = pathlib.Path(path).read_bytes()
    assert raw[:8] == b"\x93NUMPY\x01\x00", raw[:8]
    (size,) = struct.unpack("<H", raw[8:10])
    assert (10 + size) % 64 == 0
    header = eval(raw[10 : 10 + size])  # written by us
    values = array.array(CODES[header["descr"]], raw[10 + size :])
    count = 1
    for d in header["shape"]:
        count *= d
    assert len(values) == count and not header["fortran_order"]
    return header["descr"], header["shape"], list(values)


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, array of values)"""
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        raw = array.array({"F32": "f", "I32": "i", "F64": "d"}[dtype], values).tobytes()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return write(path, struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    return {n: (t["dtype"], t["shape"], raw[8 + size + t["data_offsets"][0] : 8 + size + t["data_offsets"][1]]) for n, t in header.items()}


def write_idx(path, shape, data, packed=False):
    raw = struct.pack(">BBBB", 0, 0, 8, len(shape)) + b"".join(struct.pack(">I", d) for d in shape) + bytes(data)
    return write(path, gzip.compress(raw) if packed else raw)


def make_idx(folder, n=96, packed=False, classes=10):
    """A data set that an MLP can learn: the class is which rows are bright."""
    rng = random.Random(5)
    os.makedirs(folder, exist_ok=True)
    gz = ".gz" if packed else ""
    for prefix, count in (("train", n), ("t10k", n // 2)):
        labels = [rng.randrange(classes) for _ in range(count)]
        pixels = bytearray()
        for label in labels:
            for y in range(28):
                pixels += bytes(min(255, rng.randrange(60) + (180 if y // 2 == label else 0)) for _ in range(28))
        write_idx(f"{folder}/{prefix}-images-idx3-ubyte{gz}", (count, 28, 28), pixels, packed)
        write_idx(f"{folder}/{prefix}-labels-idx1-ubyte{gz}", (count,), labels, packed)
    return str(folder)


def close(a, b, tolerance=1e-5):
    assert len(a) == len(b) and len(a) > 0
    worst = max(abs(x - y) for x, y in zip(a, b))
    assert worst <= tolerance, f"differ by {worst}"


def no_leftovers(folder):
    left = [f for f in os.listdir(folder) if ".tmp." in f]
    assert not left, f"left behind: {left}"


# ---- usage

def test_help_has_examples(d):
    text = ok("--help")
    for c in COMMANDS:
        assert re.search(rf"^ +{c} ", text, re.M), f"graphc --help lacks {c}"
        page = ok(c, "--help")
        assert f"Example:\n  graphc {c}" in page, page
    assert ok("help") == text and ok("help", "run") == ok("run", "--help")
    assert re.fullmatch(r"graphc \d+\.\d+\.\d+\n", ok("--version"))


def test_examples_of_help_run(d):
    os.symlink(EXAMPLES, d / "examples")
    shutil.copytree(EXAMPLES, d / "own")  # fmt -i writes
    for c in COMMANDS:
        line = re.search(r"Example:\n  graphc (.*)", ok(c, "--help")).group(1)
        if c == "bench":
            line = line.replace("resnet50", "mlp") + " --repeat 2"
        if c == "fmt":
            line = line.replace("examples/", "own/")
        if c == "eval":
            line = line.replace("build/shapes/", "build/shapes/") + " --batch 256"
        ok(*line.split(), cwd=d, timeout=300)


def test_wrong_usage(d):
    mlp = f"{EXAMPLES}/mlp.graph"
    fails(2, says="a command is missing")
    fails(2, "chek", mlp, says=["there is no command 'chek'", "did you mean 'check'?", "graphc --help"])
    fails(2, "frobnicate", says="there is no command 'frobnicate'")
    fails(2, "--frob", says="there is no option '--frob'")
    fails(2, "run", says=["FILE", "graphc run --help"])
    fails(2, "run", mlp, "--weigts", "x", says=["there is no option '--weigts'", "did you mean '--weights'?"])
    fails(2, "run", mlp, "--weigts=x", says=["there is no option '--weigts'", "did you mean '--weights'?"])
    fails(2, "run", "--hepl", says=["there is no option '--hepl'", "did you mean '--help'?"])
    fails(2, "check", mlp, mlp, says="one argument too many")
    fails(2, "run", mlp, "--threads", "-1", says=["--threads", "-1", "1024"])
    fails(2, "run", mlp, "--threads", "two", says=["--threads", "'two'", "whole number"])
    fails(2, "run", mlp, "--threads", says="--threads")
    fails(2, "run", mlp, "--seed", "1.5", says="--seed")
    for seed in ("18446744073709551616", "-1", "", "0x10"):
        fails(2, "run", mlp, f"--seed={seed}", says="--seed")
    ok("run", mlp, "--seed", "18446744073709551615")
    fails(2, "run", mlp, "--set", "N=2", "--set", "N=3", says="--set N is given twice")
    fails(2, "run", mlp, "--input", "image=zeros", "--input", "image=random", says="--input image is given twice")
    fails(2, "run", mlp, "--set", "N", says=["--set", "NAME=VALUE", "'N'"])
    fails(2, "run", mlp, "--input", "image", says=["--input", "'image'"])
    fails(2, "run", mlp, "-O7", says="7")
    fails(2, "bench", mlp, "--repeat", "-3", says="--repeat")
    fails(2, "train", mlp, says=["--data", "idx:DIR"])
    fails(2, "train", mlp, "--data", "shapes:64", "--batch", "0", says="--batch")
    fails(2, "train", mlp, "--data", "shapes:64", "--resume", says=["--resume", "--checkpoint DIR"])
    fails(2, "eval", mlp, "--data", "shapes:64", says="--weights")
    fails(2, "eval", mlp, "--weights", "w", says="--data")
    for size in ("1XiB", "lots", "-3", "0", "1.5.2GiB", ""):
        if size:
            fails(2, "run", mlp, "--max-memory", size, says=[size, "2GiB"])


def test_options_that_an_artefact_cannot_heed(d):
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", d / "m.gcx")
    for option in (["--target", "reference"], ["--model", "MLP"], ["-O0"], ["--strict"]):
        fails(2, "run", d / "m.gcx", *option, says="is compiled already")
    fails(2, "compile", d / "m.gcx", says="is compiled already")
    fails(1, "run", d / "m.gcx", "--set", "M=3", says=["--set M", "N"])
    fails(2, "run", d / "m.gcx", "--set", "N=three", says=["N=three", "whole number"])


# ---- wrong files

def test_missing_files_and_directories(d):
    mlp = f"{EXAMPLES}/mlp.graph"
    for c in ("check", "fmt", "compile", "run", "bench", "explain"):
        fails(1, c, d / "nope.graph", says=["nope.graph", "no file"])
        fails(1, c, d, says=[str(d), "directory"])
    fails(1, "run", d / "nope.gcx", says="nope.gcx")
    fails(1, "run", mlp, "--weights", d / "nope.safetensors", says="nope.safetensors")
    fails(1, "run", mlp, "--weights", d, says=str(d))
    fails(1, "run", mlp, "--input", f"image={d}/nope.npy", says="nope.npy")
    fails(1, "run", mlp, "--input", f"image={d}", says=[str(d), "directory"])
    fails(1, "train", mlp, "--data", f"idx:{d}/nowhere", says=["nowhere", "no directory"])
    fails(1, "train", mlp, "--data", f"idx:{d}", says="train-images")
    fails(1, "train", mlp, "--data", "shpes:64", says=["shpes", "did you mean 'shapes'?"])
    fails(1, "train", mlp, "--data", "shapes:64,sed=3", says=["sed", "did you mean 'seed'?"])
    fails(1, "train", mlp, "--data", "shapes:64", "--checkpoint", d / "ck", "--resume", says="last.safetensors")
    if os.getuid() != 0:
        os.chmod(write(d / "secret.graph", "graphc 1\n"), 0)
        fails(1, "check", d / "secret.graph", says="can't be read")


def test_things_that_are_no_artefact(d):
    text, empty, graph = write(d / "t.gcx", "hello\n" * 100), write(d / "e.gcx", ""), shutil.copy(f"{EXAMPLES}/mlp.graph", d / "g.gcx")
    for f in (text, empty, graph):
        for c in ("run", "bench"):
            fails(1, c, f, says=[pathlib.Path(f).name, "no .gcx file"])
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", d / "m.gcx")
    renamed = shutil.copy(d / "m.gcx", d / "m.graph")
    fails(1, "check", renamed, says="m.graph")
    fails(1, "train", d / "m.gcx", "--data", "shapes:64", says="--train")
    fails(1, "eval", d / "m.gcx", "--data", "shapes:64", says="--train")


def test_hostile_graph_files(d):
    files = {
        "nested": "graphc 1\nmodel M[N](x: f32[N]) -> (y: f32[N]) {\n  return " + "(" * 5000 + "x" + ")" * 5000 + "\n}\n",
        "braces": "graphc 1\n" + "model M() -> () {" * 5000,
        "nul": b"graphc 1\nmodel\0M",
        "binary": random.Random(1).randbytes(5000),
        "empty": "",
        "blank": "\n" * 100000,
        "huge": "x" * (64 << 20),
        "too_huge": "x" * ((64 << 20) + 1),
        "line": "graphc 1\nmodel M[N](x: f32[N]) -> (y: f32[N]) { return x" + " + x" * 200000 + " }\n",
        "digits": "graphc 1\nmodel M(x: f32[" + "9" * 10000 + "]) -> (y: f32[1]) { return x }\n",
    }
    for name, text in files.items():
        path = write(d / f"{name}.graph", text)
        for c in ("check", "run", "fmt"):
            if c == "fmt" and name in ("line", "digits"):
                continue  # well-formed
            start = time.monotonic()
            message = fails(1, c, path, says=f"{name}.graph", timeout=30)
            assert time.monotonic() - start < 5, f"{c} {name}: {time.monotonic() - start:.1f} s"
            assert len(message) < 20000, f"{c} {name}: a message of {len(message)} bytes"


def test_graph_prefixes_and_flips(d):
    good = pathlib.Path(EXAMPLES, "mnist_cnn.graph").read_bytes()
    rng = random.Random(3)
    for k in range(40):
        bad = bytearray(good)
        if k % 2:
            del bad[rng.randrange(len(bad)) :]
        else:
            for _ in range(3):
                bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        p = run("check", write(d / "b.graph", bytes(bad)), timeout=30)
        assert p.returncode in (0, 1) and (p.returncode == 0 or "b.graph:" in p.stderr), p.stderr


# ---- inputs, sizes, weights

def test_inputs_are_checked(d):
    model = write(d / "s.graph", SCALE)
    inputs = {
        "dtype": (["x=" + write_npy(d / "a.npy", (2, 4), range(8), "<f8")], ["'x'", "f32[N, 4]", "f64[2, 4]"]),
        "rank": (["x=" + write_npy(d / "b.npy", (4,), range(4))], ["'x'", "f32[N, 4]", "f32[4]"]),
        "size": (["x=" + write_npy(d / "c.npy", (2, 5), range(10))], ["'x'", "f32[N, 4]", "f32[2, 5]"]),
        "cut": (["x=" + write(d / "e.npy", pathlib.Path(d / "c.npy").read_bytes()[:-3])], ["e.npy", "bytes of data"]),
        "text": (["x=" + write(d / "f.npy", "1 2 3\n")], ["f.npy", "not a valid .npy"]),
        "name": (["y=zeros"], ["--input y", "it has: x"]),
    }
    ok("compile", model, "-o", d / "s.gcx")
    for file in (model, d / "s.gcx"):
        for name, (args, says) in inputs.items():
            fails(1, "run", file, *[a for i in args for a in ("--input", i)], says=says)
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", d / "m.gcx")
    fails(1, "run", d / "m.gcx", "--input", "imge=zeros", says=["imge", "did you mean 'image'?"])
    fails(1, "run", model, "--set", "M=3", says="--set M")
    fails(1, "run", model, "--output", f"z={d}/z.npy", says=["--output z", "y, total"])


def test_max_memory(d):
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", d / "m.gcx")
    fails(4, "run", d / "m.gcx", "--set", "N=1000", "--max-memory", "1MiB", says=["'image'", "3136000", "1048576"])
    fails(4, "train", f"{EXAMPLES}/mlp.graph", "--data", "shapes:64", "--max-memory", "20KiB", says="budget")
    ok("run", d / "m.gcx", "--set", "N=1000", "--max-memory", "1GiB")
    # parameters count: mlp's take 428 KiB, and at N=1 there is little else
    fails(4, "run", d / "m.gcx", "--set", "N=1", "--max-memory", "400KiB", says=["parameters and state", "409600"])
    fails(4, "run", d / "m.gcx", "--set", "N=1", "--max-memory", "428KiB", says="budget")
    ok("run", d / "m.gcx", "--set", "N=1", "--max-memory", "440KiB")
    # more than any machine has: an error, not a crash
    fails(4, "run", d / "m.gcx", "--set", "N=2000000000", says="image")


def linear(rng, **other):
    w = {"proj.weight": ("F32", [3, 4], [rng.uniform(-1, 1) for _ in range(12)]), "proj.bias": ("F32", [3], [rng.uniform(-1, 1) for _ in range(3)])}
    w.update(other)
    return w


def weight_shape(model):
    """The shape of proj.weight, whichever way Linear keeps it."""
    message = fails(1, "run", model, "--weights", write_safetensors("probe.safetensors", {"proj.weight": ("F32", [1], [0.0])}))
    return json.loads(re.search(r"the model's is f32(\[.*?\])", message).group(1))


def test_weights(d):
    os.chdir(d)
    model = write("s.graph", SCALE)
    ok("compile", model, "-o", "s.gcx")
    rng = random.Random(2)
    x = [rng.uniform(-1, 1) for _ in range(8)]
    write_npy("x.npy", (2, 4), x)
    shape = weight_shape(model)
    weights = linear(rng)
    w, bias = weights["proj.weight"][2], weights["proj.bias"][2]
    at = (lambda o, i: w[o * 4 + i]) if shape == [3, 4] else (lambda o, i: w[i * 3 + o])
    weights["proj.weight"] = ("F32", shape, w)
    expected = [max(0.0, sum(x[n * 4 + i] * at(o, i) for i in range(4)) + bias[o]) for n in range(2) for o in range(3)]
    write_safetensors("good.safetensors", weights)
    write_safetensors("f64.safetensors", {n: ("F64", s, v) for n, (_, s, v) in weights.items()})
    for file in (model, "s.gcx"):
        for name in ("good", "f64"):
            ok("run", file, "--weights", f"{name}.safetensors", "--input", "x=x.npy", "--output", "out")
            close(read_npy("out/y.npy")[2], expected, 1e-6)
    ok("compile", model, "--weights", "good.safetensors", "-o", "inside.gcx")
    ok("run", "inside.gcx", "--input", "x=x.npy", "--output", "y=y.npy")
    close(read_npy("y.npy")[2], expected, 1e-6)

    def bad(says, **change):
        tensors = dict(weights)
        for name, value in change.items():
            name = name.replace("__", ".")
            tensors.pop(name, None) if value is None else tensors.update({name: value})
        write_safetensors("bad.safetensors", tensors)
        for file in (model, "s.gcx"):
            fails(1, "run", file, "--weights", "bad.safetensors", says=["bad.safetensors", *says])

    bad(["'proj.bias'", "f32[4]", "f32[3]"], proj__bias=("F32", [4], [0.0] * 4))
    bad(["'proj.bias'", "i32[3]", "f32[3]"], proj__bias=("I32", [3], [0] * 3))
    bad(["lacks the parameter 'proj.bias'"], proj__bias=None)
    bad(["'proj.bais'", "did you mean 'proj.bias'?"], proj__bias=None, proj__bais=("F32", [3], [0.0] * 3))
    bad(["'extra'"], extra=("F32", [3], [0.0] * 3))
    write("bad.safetensors", pathlib.Path("good.safetensors").read_bytes()[:-1])
    fails(1, "run", model, "--weights", "bad.safetensors", says=["bad.safetensors", "cut off"])
    write("bad.safetensors", "no weights at all")
    fails(1, "run", model, "--weights", "bad.safetensors", says="bad.safetensors")


def test_weights_map(d):
    os.chdir(d)
    model = write("s.graph", SCALE)
    shape, rng = weight_shape(model), random.Random(4)
    w, bias = [rng.uniform(-1, 1) for _ in range(12)], [rng.uniform(-1, 1) for _ in range(3)]
    rows, cols = shape
    turned = [w[i * cols + j] for j in range(cols) for i in range(rows)]
    write_safetensors("ours.safetensors", {"proj.weight": ("F32", shape, w), "proj.bias": ("F32", [3], bias)})
    write_safetensors("theirs.safetensors", {"net.h.0.kernel": ("F32", shape[::-1], turned), "net.h.0.bias": ("F32", [3], bias), "net.count": ("I32", [1], [4])})
    write("w.map", "# another framework's names\nnet.count = -\nnet.h.*.kernel = proj.weight transpose\n")
    fails(1, "run", model, "--weights", "theirs.safetensors", "--weights-map", "w.map", says=["w.map:3", "wildcards"])
    write("w.map", "# another framework's names\nnet.count = -\nnet.h.0.kernel = proj.weight transpose\nnet.h.0.* = proj.*\n")
    ok("run", model, "--weights", "ours.safetensors", "--output", "a")
    ok("compile", model, "-o", "s.gcx")
    for file in (model, "s.gcx"):
        ok("run", file, "--weights", "theirs.safetensors", "--weights-map", "w.map", "--output", "b")
        close(read_npy("a/y.npy")[2], read_npy("b/y.npy")[2], 1e-6)
        fails(1, "run", file, "--weights", "theirs.safetensors", "--weights-map", "none.map", says="none.map")
        fails(2, "run", file, "--weights-map", "w.map", says="--weights")
    ok("compile", model, "-o", "inside.gcx", "--weights", "theirs.safetensors", "--weights-map", "w.map")
    ok("run", "inside.gcx", "--output", "c")
    close(read_npy("a/y.npy")[2], read_npy("c/y.npy")[2], 1e-6)


# ---- results

def test_outputs_agree_between_backends_and_forms(d):
    os.chdir(d)
    for name, sizes in (("mlp", [1, 3]), ("shapes", [3]), ("mnist_cnn", [2])):
        model = f"{EXAMPLES}/{name}.graph"
        ok("compile", model, "-o", "m.gcx")
        for n in sizes:
            ok("compile", model, "--set", f"N={n}", "-o", "fixed.gcx")
            args = ["--set", f"N={n}", "--seed", "7", "--threads", "2"]
            ok("run", model, *args, "--output", "cpu")
            ok("run", model, *args, "--target", "reference", "--output", "reference")
            ok("run", model, *args, "-O0", "--output", "plain")
            ok("run", "m.gcx", *args, "--output", "artefact")
            ok("run", "m.gcx", *args, "--input", "zeros", "--output", "zeros")
            ok("run", "fixed.gcx", "--seed", "7", "--output", "fixed")
            descr, shape, cpu = read_npy("cpu/logits.npy")
            assert descr == "<f4" and shape[0] == n and len(set(cpu)) > 1
            close(cpu, read_npy("reference/logits.npy")[2])
            close(cpu, read_npy("plain/logits.npy")[2])
            close(cpu, read_npy("artefact/logits.npy")[2])
            assert cpu == read_npy("fixed/logits.npy")[2], "an artefact and its text differ"
            assert cpu != read_npy("zeros/logits.npy")[2]


def test_run_prints(d):
    model = write(d / "s.graph", SCALE)
    x = write_npy(d / "x.npy", (2, 4), [0.5] * 8)
    lines = ok("run", model, "--input", f"x={x}").splitlines()
    assert len(lines) == 2 and lines[0].startswith("y: f32[2, 3] = [") and lines[1].startswith("total: f32[2] = ["), lines
    assert ok("run", model, "--seed", "1") != ok("run", model, "--seed", "2")
    assert ok("run", model, "--seed", "1") == ok("run", model, "--seed", "1", "--threads", "1")


def test_outputs_that_cannot_be_written(d):
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", d / "m.gcx")
    file = write(d / "file", "x")
    fails(1, "run", d / "m.gcx", "--output", "/proc/nowhere", says="/proc/nowhere")
    fails(1, "run", d / "m.gcx", "--output", file, says=[file, "directory"])
    fails(1, "run", d / "m.gcx", "--output", f"logits={d}/no/such/l.npy", says="no/such")
    fails(1, "run", d / "m.gcx", "--output", f"logits={d}", says=str(d))
    fails(1, "compile", f"{EXAMPLES}/mlp.graph", "-o", f"{d}/no/such.gcx", says="no/such.gcx")
    fails(1, "compile", f"{EXAMPLES}/mlp.graph", "-o", d, says=str(d))
    fails(1, "train", f"{EXAMPLES}/mlp.graph", "--data", "shapes:64", "--checkpoint", f"{file}/ck", says=f"{file}/ck")


def limited_files():
    """A disk that fills up after 600 bytes of a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))


def test_files_appear_whole_or_not_at_all(d):
    os.chdir(d)
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", "m.gcx")
    # the stand-ins are below the limit themselves
    old = {name: f"old content of {name}" for name in ("n.gcx", "out/logits.npy", "l.npy", "core.txt", "ck/last.safetensors", "ck/best.safetensors")}
    long_text = "graphc 1\n" + "# a comment\n" * 100 + SCALE[9:].replace("  y =", "     y =")
    for folder in ("out", "ck"):
        os.mkdir(folder)
    old["f.graph"] = long_text
    for name, text in old.items():
        write(name, text)
    commands = [
        ["compile", f"{EXAMPLES}/mlp.graph", "-o", "n.gcx"],
        ["compile", f"{EXAMPLES}/mlp.graph", "--emit", "core", "-o", "core.txt"],
        ["run", "m.gcx", "--set", "N=64", "--output", "out"],
        ["run", "m.gcx", "--set", "N=64", "--output", "logits=l.npy"],
        ["fmt", "-i", "f.graph"],
        ["train", f"{EXAMPLES}/mlp.graph", "--data", "shapes:64", "--epochs", "1", "--checkpoint", "ck"],
    ]
    for c in commands:
        fails(4, *c, says="can't write", preexec_fn=limited_files)
        for name, text in old.items():
            assert pathlib.Path(name).read_text() == text, f"{c[0]} destroyed {name}"
        for folder in (".", "out", "ck"):
            no_leftovers(folder)
    for c in commands:
        ok(*c)
    for name, text in old.items():
        assert pathlib.Path(name).read_bytes() != text.encode(), f"{name} wasn't written"


def test_streams_that_are_full_or_closed(d):
    mlp = f"{EXAMPLES}/mlp.graph"
    ok("compile", mlp, "-o", d / "m.gcx")
    with open("/dev/full", "w") as full:
        for args in (["ops"], ["ops", "relu"], ["run", d / "m.gcx"], ["--help"], ["check", mlp], ["fmt", mlp], ["devices"], ["check", mlp, "--json"],
                     ["compile", mlp, "--emit", "core"], ["train", mlp, "--data", "shapes:64", "--epochs", "1"]):
            p = run(*args, stdout=full)
            assert p.returncode == 4 and "can't write to the standard output" in p.stderr, f"{args}: {p.returncode} {p.stderr}"
        for args, code in ((["run", d / "nope.graph"], 1), (["chek"], 2), (["check", write(d / "bad.graph", "graphc 1\nmodel")], 1)):
            assert run(*args, stderr=full).returncode == code, args
    def close_streams():
        os.close(1)
        os.close(2)
    p = run("compile", mlp, "-o", d / "closed.gcx", stdout=None, stderr=None, preexec_fn=close_streams)
    assert p.returncode == 4, p.returncode
    assert (d / "closed.gcx").read_bytes() == (d / "m.gcx").read_bytes(), "printed into the artefact"
    assert run("run", d / "nope.graph", stdout=None, stderr=None, preexec_fn=close_streams).returncode == 1


def test_check_json(d):
    j = json.loads(ok("check", f"{EXAMPLES}/shapes.graph", "--json"))
    assert j["model"] == "ShapesNet" and j["inputs"] == ["image: f32[N, 1, 28, 28]"] and j["outputs"] == ["logits: f32[N, 6]"]
    # conv 16*9+16, conv 32*16*9+32, batch norm 2*32, linear 1568*6+6
    assert j["parameters"] == 160 + 4640 + 64 + 9414 and j["parameter_bytes"] == 4 * j["parameters"]
    eight = json.loads(ok("check", f"{EXAMPLES}/shapes.graph", "--set", "N=8", "--json"))
    for part in ("inference", "training_step"):
        assert j[part]["sizes"] == {"N": 1} and j[part]["flops"] > 1e6 and j[part]["memory_bytes"] > 28 * 28 * 4
        assert 7 < eight[part]["flops"] / j[part]["flops"] <= 8
    text = ok("check", f"{EXAMPLES}/resnet50.graph")
    assert "parameters: 25,557,032" in text, text


def test_check_of_artefacts_and_weights(d):
    model = f"{EXAMPLES}/shapes.graph"
    ok("train", model, "--data", "shapes:64", "--steps", "1", "--seed", "9", "--checkpoint", d / "ck")
    weights = d / "ck/last.safetensors"
    ok("compile", model, "--train", "--weights", weights, "-o", d / "m.gcx")
    graphc_run = str(pathlib.Path(GRAPHC).with_name("graphc-run"))
    text = ok("check", d / "m.gcx")
    assert text == ok("check", d / "m.gcx", program=graphc_run)
    for says in ("model ShapesNet for cpu", "-O2 --train", "image: f32[N, 1, 28, 28]", "parameters: 14,278", "needs: ", "avx2", "size    N >= 0"):
        assert says in text, f"no '{says}'\n{text}"
    j = json.loads(ok("check", d / "m.gcx", "--json"))
    assert set(j["functions"]) == {"infer", "eval", "train"} and j["parameters"] == 14278 and j["weight_bytes_inside"] >= 4 * 14278
    assert j["target"] == "cpu" and "avx2" in j["cpu_features"] and j["provenance"]["model"] == "ShapesNet" and len(j["core_hash"]) == 64
    text = ok("check", weights)
    for says in ("fc.weight: f32[6, 1568]", "graphc.seed: 9", "graphc.step: 1", "graphc.data: shapes:64", "circle,square"):
        assert says in text, f"no '{says}'\n{text}"
    j = json.loads(ok("check", weights, "--json"))
    assert j["tensors"]["fc.bias"] == "f32[6]" and j["metadata"]["graphc.core_hash"]
    fails(2, "check", d / "m.gcx", "--set", "N=1", says=".graph files")
    fails(1, "check", write(d / "bad.gcx", "text"), says="bad.gcx")


def test_progress_bar(d):
    """On a terminal the standard error shows a bar with rate and time left; what goes to a pipe stays plain."""
    try:
        main, child = os.openpty()
    except OSError as e:
        raise Skipped(f"no pseudo-terminal here ({e}): a bar can't be shown")
    p = subprocess.Popen([GRAPHC, "train", f"{EXAMPLES}/shapes.graph", "--data", "shapes:2048", "--epochs", "2"], stdout=subprocess.PIPE, stderr=child, text=True)
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        shown += piece
    out = p.communicate(timeout=60)[0]
    os.close(main)
    assert p.returncode == 0
    bar = rb"\repoch 1/2  \[[#-]{20}\] +\d+%  loss=\d+\.\d{4} acc=\d\.\d{4}  [\d,]+ samples/s  \d+:\d\d left"
    assert re.search(bar, shown), shown[:2000]
    assert "\r" not in out and len(out.splitlines()) == 2, out


def test_bench_json(d):
    model = f"{EXAMPLES}/mlp.graph"
    j = json.loads(ok("bench", model, "--set", "N=4", "--repeat", "20", "--warmup", "2", "--threads", "2", "--json"))
    assert set("median_ms p10_ms p90_ms runs threads compile_cold_s compile_warm_s flops bytes peak_memory_bytes machine".split()) <= set(j)
    assert j["runs"] == 20 and j["threads"] == 2 and 0 < j["p10_ms"] <= j["median_ms"] <= j["p90_ms"]
    assert 4 * 2 * (784 * 128 + 128 * 64 + 64 * 10) <= j["flops"] < 1.1 * 4 * 2 * (784 * 128 + 128 * 64 + 64 * 10)
    assert j["compile_cold_s"] > 0 and j["compile_warm_s"] > 0 and j["peak_memory_bytes"] > 4 * 109386 and j["machine"]
    ok("compile", model, "-o", d / "m.gcx")
    j = json.loads(ok("bench", d / "m.gcx", "--repeat", "5", "--json"))
    assert j["runs"] == 5 and j["compile_cold_s"] == 0
    assert "median" in ok("bench", d / "m.gcx", "--repeat", "5", "--profile")


def test_ops_devices_explain(d):
    assert len(re.findall(r"^\w+\(", ok("ops"), re.M)) > 60
    assert "axis" in ok("ops", "softmax")
    fails(1, "ops", "sofmax", says="did you mean 'softmax'?")
    text = ok("devices")
    assert re.search(r"^cpu:0 ", text, re.M) and re.search(r"^reference:0 ", text, re.M)
    text = ok("explain", f"{EXAMPLES}/mlp.graph", "--set", "N=1")
    assert "mlp.graph:" in text and "contraction on cpu" in text, text
    for form, mark in (("core", "dot_general"), ("loops", "kernel @"), ("llvm", "define"), ("asm", "ret")):
        assert mark in ok("compile", f"{EXAMPLES}/mlp.graph", "--emit", form), form
    fails(2, "compile", f"{EXAMPLES}/mlp.graph", "--emit", "morse", says=["morse", "loops"])
    fails(1, "run", f"{EXAMPLES}/mlp.graph", "--target", "gpu", says=["'gpu'", "cpu, reference"])


def test_fmt(d):
    ugly = write(d / "u.graph", SCALE.replace("  y = x", "     y   =  x").replace("}\n", "}   # kept\n"))
    fails(1, "fmt", "--check", ugly, says=["u.graph isn't formatted", "graphc fmt -i"])
    printed = ok("fmt", ugly)
    assert printed.count("# kept") == 2 and "  y = x" in printed
    before = os.stat(ugly).st_mtime_ns
    assert ok("fmt", "-i", ugly) == "" and pathlib.Path(ugly).read_text() == printed and os.stat(ugly).st_mtime_ns != before
    ok("fmt", "--check", ugly)
    stamp = os.stat(ugly).st_mtime_ns
    ok("fmt", "-i", ugly)
    assert os.stat(ugly).st_mtime_ns == stamp, "a formatted file is left alone"
    for example in pathlib.Path(EXAMPLES).glob("*.graph"):
        ok("fmt", "--check", example)
    assert ok("fmt", "-", stdin=open(ugly)) == printed
    fails(1, "fmt", "-", input="graphc 1\nmodel M( {\n", says="-:2:")
    fails(2, "fmt", "-i", "-", input="", says="-i")
    with open(f"{EXAMPLES}/mlp.graph") as pipe:
        p = subprocess.run(f"cat | {GRAPHC} check /dev/stdin", shell=True, stdin=pipe, capture_output=True, text=True, timeout=60)
    assert "parameters: 109,386" in p.stdout, p.stderr
    broken = write(d / "b.graph", "graphc 1\nmodel M( {\n")
    fails(1, "fmt", "-i", broken, says="b.graph:2:")
    assert pathlib.Path(broken).read_text() == "graphc 1\nmodel M( {\n"


def test_out_of_memory_is_an_error(d):
    """In an address space of every size from the one on in which the program starts at all: done, or exit code 4 and a message."""
    os.chdir(d)
    ok("compile", f"{EXAMPLES}/shapes.graph", "--train", "-o", "m.gcx")
    graphc_run = str(pathlib.Path(GRAPHC).with_name("graphc-run"))
    within = lambda mib: lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
    # two more than it takes to start: less, and the C++ library has no memory for exceptions
    least = 2 + next(mib for mib in range(1, 500) if run("--version", program=graphc_run, preexec_fn=within(mib)).returncode == 0)
    codes = set()
    for mib in [*range(least, least + 25), least + 32, least + 64, 1024]:
        p = run("train", "m.gcx", "--data", "shapes:640", "--batch", "320", "--epochs", "1", "--threads", "2", program=graphc_run,
                preexec_fn=within(mib))
        if "Fatal glibc error" in p.stderr:
            continue  # the C library's own: no memory to register a thread's destructor
        codes.add(p.returncode)
        assert p.returncode in (0, 4), f"{mib} MiB: exit code {p.returncode} {p.stderr}"
        assert p.returncode == 0 or "memory" in p.stderr, p.stderr
    assert codes == {0, 4}, codes


def test_damaged_files(d):
    """100 flips and truncations each, through the program: an error that names the file, or a harmless other value."""
    os.chdir(d)
    ok("compile", write("s.graph", SCALE), "-o", "s.gcx")
    ok("compile", f"{EXAMPLES}/mlp.graph", "--train", "-o", "m.gcx")
    rng = random.Random(11)
    write_npy("x.npy", (2, 4), [rng.uniform(-1, 1) for _ in range(8)])
    shape = weight_shape("s.graph")
    write_safetensors("w.safetensors", {"proj.weight": ("F32", shape, [rng.uniform(-1, 1) for _ in range(12)]), "proj.bias": ("F32", [3], [1, 2, 3])})
    make_idx("data", n=8)
    graphc_run = str(pathlib.Path(GRAPHC).with_name("graphc-run"))
    cases = {
        "x.npy": ["run", "s.gcx", "--input", "x=x.npy"],
        "w.safetensors": ["run", "s.gcx", "--weights", "w.safetensors", "--input", "x=zeros"],
        "data/train-images-idx3-ubyte": ["train", "m.gcx", "--data", "idx:data", "--epochs", "1"],
        "data/train-labels-idx1-ubyte": ["train", "m.gcx", "--data", "idx:data", "--epochs", "1"],
    }
    for name, command in cases.items():
        good = pathlib.Path(name).read_bytes()
        refused = 0
        for k in range(100):
            bad = bytearray(good)
            for _ in range(rng.randrange(1, 3)):
                # half of them where the structure is
                at = rng.randrange(min(len(bad), 160 if k % 2 else len(bad)))
                bad[at] ^= 1 << rng.randrange(8)
            if k >= 80:
                del bad[rng.randrange(len(bad)) :]
            pathlib.Path(name).write_bytes(bad)
            p = run(*command, program=graphc_run, timeout=60)
            assert p.returncode in (0, 1), f"{name}: exit code {p.returncode}: {p.stderr}"
            if p.returncode == 1:
                refused += 1
                assert p.stderr.startswith("graphc-run: error: ") and len(p.stderr) < 2000, p.stderr
        assert refused >= 20, f"{name}: {refused} of 100 noticed"
        pathlib.Path(name).write_bytes(good)
        ok(*command, program=graphc_run)


# ---- training

NUMBER = r"-?\d+\.\d{4}"


def test_train_prints_a_line_an_epoch(d):
    data = make_idx(d / "data")
    text = ok("train", f"{EXAMPLES}/mlp.graph", "--data", f"idx:{data}", "--epochs", "3", "--batch", "16", "--checkpoint", d / "ck")
    lines = text.splitlines()
    pattern = rf"epoch (\d)/3  loss={NUMBER} acc=({NUMBER})  val_loss={NUMBER} val_acc=({NUMBER})  \d+\.\d s"
    found = [re.fullmatch(pattern, line) for line in lines[:3]]
    assert all(found) and [m.group(1) for m in found] == ["1", "2", "3"], text
    assert float(found[2].group(2)) > float(found[0].group(2)), f"nothing was learnt\n{text}"
    assert lines[3:] == [f"weights: {d}/ck/last.safetensors"], lines
    assert sorted(os.listdir(d / "ck")) == ["best.safetensors", "last.safetensors"]
    # the metric names are the recipe's; without validation data there are no val_ columns
    model = write(d / "s.graph", SCALE)
    lines = ok("train", f"{EXAMPLES}/mlp.graph", "--data", f"idx:{data},split=0.25", "--epochs", "1").splitlines()
    assert re.fullmatch(pattern.replace(r"(\d)/3", "1/1"), lines[0]), lines
    for name in os.listdir(data):
        if name.startswith("t10k"):
            os.remove(f"{data}/{name}")
    lines = ok("train", f"{EXAMPLES}/mlp.graph", "--data", f"idx:{data}", "--epochs", "1").splitlines()
    assert re.fullmatch(rf"epoch 1/1  loss={NUMBER} acc={NUMBER}  \d+\.\d s", lines[0]), lines


def test_idx_data(d):
    mlp = f"{EXAMPLES}/mlp.graph"
    plain, packed = make_idx(d / "plain"), make_idx(d / "packed", packed=True)
    strip = lambda text: re.sub(r"  \d+\.\d s", "", text)
    one = ok("train", mlp, "--data", f"idx:{plain}", "--epochs", "1")
    assert strip(one) == strip(ok("train", mlp, "--data", f"idx:{packed}", "--epochs", "1")), "packed data give other results"
    assert strip(one) != strip(ok("train", mlp, "--data", f"idx:{plain},mean=0.1,std=0.3", "--epochs", "1"))
    images = d / "plain" / "train-images-idx3-ubyte"
    good = images.read_bytes()
    for text, says in ((good[:-5], "bytes of data"), (good[:9], "header"), (b"", "header"), (b"\0\0\7" + good[3:], "magic"), (b"\1" + good[1:], "zero bytes"),
                       (good + b"x", "bytes of data"), (good[:4] + b"\x7f\xff\xff\xff" + good[8:], "")):
        images.write_bytes(text)
        fails(1, "train", mlp, "--data", f"idx:{plain}", "--epochs", "1", says=["train-images-idx3-ubyte", says])
    images.write_bytes(good)
    gz = d / "packed" / "train-images-idx3-ubyte.gz"
    whole = gz.read_bytes()
    for text in (whole[:-20], whole[: len(whole) // 2], whole[:1000] + b"\xff" * 50 + whole[1050:]):
        gz.write_bytes(text)
        fails(1, "train", mlp, "--data", f"idx:{packed}", "--epochs", "1", says="train-images-idx3-ubyte.gz")
    write_idx(d / "plain" / "train-labels-idx1-ubyte", (5,), [1] * 5)
    fails(1, "train", mlp, "--data", f"idx:{plain}", says=["labels", "5", "96"])
    # pictures of another size, labels out of range
    small = d / "small"
    os.mkdir(small)
    write_idx(small / "train-images-idx3-ubyte", (4, 8, 8), range(256))
    write_idx(small / "train-labels-idx1-ubyte", (4,), [0, 1, 2, 3])
    fails(1, "train", mlp, "--data", f"idx:{small}", says=["image", "[N, 1, 28, 28]", "8, 8"])


def test_steps_and_fine_tuning(d):
    model = f"{EXAMPLES}/shapes.graph"
    base = ["train", model, "--data", "shapes:256", "--batch", "32", "--checkpoint"]
    text = ok(*base, d / "a", "--steps", "3")
    assert text.startswith("stopped in epoch 1/10 after step 3  loss=") and "--resume" in text, text
    text = ok(*base, d / "a", "--steps", "3", "--resume")
    assert "nothing is left to do" in text, text
    ok(*base, d / "a", "--steps", "5", "--resume")
    ok(*base, d / "b", "--steps", "5")
    a, b = read_safetensors(d / "a/last.safetensors"), read_safetensors(d / "b/last.safetensors")
    assert a == b and len(a) > 8, "3 + 2 steps aren't 5"
    # fine-tuning begins with the weights and a fresh optimizer
    ok(*base, d / "c", "--steps", "1", "--weights", d / "b/last.safetensors", "--set", "lr=0.0")
    c = read_safetensors(d / "c/last.safetensors")
    assert c["fc.weight"] == b["fc.weight"] and c["conv1.weight"] == b["conv1.weight"]
    fails(2, *base, d / "c", "--weights", d / "b/last.safetensors", "--resume", says="--weights")
    fails(1, *base, d / "b", "--resume", "--seed", "5", says=["--seed 0", "--seed 5"])
    fails(1, "train", f"{EXAMPLES}/mlp.graph", "--data", "shapes:256", "--batch", "32", "--checkpoint", d / "b", "--resume", says="another program")
    fails(1, "train", f"{EXAMPLES}/mlp.graph", "--data", "shapes:256", "--weights", d / "b/last.safetensors", says="the model has no")


def crc32c(data):
    c = 0xFFFFFFFF
    for byte in data:
        c ^= byte
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF


def read_fields(raw):
    """(number, value) of each field of a protocol buffer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(raw):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            value, at = raw[at : at + size], at + size
        yield key >> 3, value


def read_events(path):
    """(step, tag, value) of every scalar; checksums and the version record are checked."""
    raw, at, events = pathlib.Path(path).read_bytes(), 0, []
    masked = lambda data: ((crc32c(data) >> 15 | crc32c(data) << 17) + 0xA282EAD8) & 0xFFFFFFFF
    while at < len(raw):
        (size,) = struct.unpack("<Q", raw[at : at + 8])
        data = raw[at + 12 : at + 12 + size]
        assert len(data) == size and struct.unpack("<I", raw[at + 8 : at + 12]) == (masked(raw[at : at + 8]),)
        assert struct.unpack("<I", raw[at + 12 + size : at + 16 + size]) == (masked(data),)
        fields = dict(read_fields(data))
        assert abs(struct.unpack("<d", fields[1])[0] - time.time()) < 600
        if at == 0:
            assert fields[3] == b"brain.Event:2"
        else:
            for number, value in read_fields(fields[5]):
                v = dict(read_fields(value))
                events.append((fields[2], v[1].decode(), struct.unpack("<f", v[2])[0]))
        at += 16 + size
    return events


def test_log_for_tensorboard(d):
    assert crc32c(b"123456789") == 0xE3069283
    text = ok("train", f"{EXAMPLES}/shapes.graph", "--data", "shapes:256", "--batch", "32", "--epochs", "2", "--log", d / "logs/run")
    (name,) = os.listdir(d / "logs/run")
    assert name.startswith("events.out.tfevents."), name
    events = read_events(d / "logs/run" / name)
    assert [s for s, tag, _ in events if tag == "loss/step"] == list(range(1, 17))
    for epoch in (1, 2):
        shown = re.search(rf"epoch {epoch}/2  loss=(\S+) acc=(\S+)  val_loss=(\S+) val_acc=(\S+)", text).groups()
        at_end = {tag: value for s, tag, value in events if s == 8 * epoch}
        for tag, value in zip(("loss/train", "acc/train", "loss/val", "acc/val"), shown):
            assert abs(at_end[tag] - float(value)) < 1e-4, (tag, value, at_end)
        assert at_end["samples_per_second"] > 0
    write(d / "file", "")
    fails(1, "train", f"{EXAMPLES}/shapes.graph", "--data", "shapes:64", "--log", d / "file", says=str(d / "file"))


def test_foreign_names_cannot_steer_the_terminal(d):
    esc = "\x1b[2J\x1b]0;owned\x07\x9b"
    write_safetensors(d / "w.safetensors", {"a" + esc + "\u00e9": ("F32", [1], [1.0])})
    model = write(d / "s.graph", SCALE)
    for text in (fails(1, "run", model, "--weights", d / "w.safetensors"), ok("check", d / "w.safetensors")):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) and "\u00e9" in text, repr(text)
    raw = pathlib.Path(d / "s.graph").read_bytes().replace(b"relu", b"re\xff\x1b[31mlu")
    assert "\x1b" not in fails(1, "check", write(d / "t.graph", raw))
    assert "\x1b" not in fails(1, "run", d / "x\x1b[31m.graph")


def test_interrupt(d):
    args = ["train", f"{EXAMPLES}/shapes.graph", "--data", "shapes:4096", "--epochs", "50", "--batch", "16", "--checkpoint", str(d / "ck dir")]
    for sig in (signal.SIGINT, signal.SIGTERM):
        shutil.rmtree(d / "ck dir", ignore_errors=True)
        p = subprocess.Popen([GRAPHC, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = p.stdout.readline()
        assert first.startswith("epoch 1/50"), first
        p.send_signal(sig)
        out, err = p.communicate(timeout=20)
        assert p.returncode == 130, f"exit code {p.returncode}: {out}{err}"
        m = re.search(r"interrupted in epoch \d+/50 after step (\d+).*\nsaved (.*)/last.safetensors; continue with: (.*)\n", out)
        assert m and "weights:" not in out and not err, (out, err)
        # what it says to type, works
        text = subprocess.run(["bash", "-c", m.group(3).replace("--epochs 50", "--epochs 1")], capture_output=True, text=True, timeout=60)
        assert text.returncode == 0 and "nothing is left to do" in text.stdout, (text.stdout, text.stderr)
        p = subprocess.Popen(["bash", "-c", "exec " + m.group(3)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = p.stdout.readline()
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20)
        assert re.match(rf"resumed at epoch \d+/50, batch \d+ of 256, step {m.group(1)}\n", line), line
        no_leftovers(d / "ck dir")


def test_nan_names_op_and_line(d):
    message = fails(1, "train", f"{EXAMPLES}/shapes.graph", "--data", "shapes:256", "--epochs", "2", "--set", "lr=1e30")
    assert re.search(r"the loss is (nan|inf) in epoch \d+, batch \d+ \(step \d+\).*shapes\.graph:\d+:\d+", message), message
    assert "learning rate" in message


def test_eval(d):
    data = make_idx(d / "data", n=400)
    mlp = f"{EXAMPLES}/mlp.graph"
    ok("train", mlp, "--data", f"idx:{data}", "--epochs", "6", "--batch", "16", "--checkpoint", d / "ck")
    weights = d / "ck/last.safetensors"
    j = json.loads(ok("eval", mlp, "--data", f"idx:{data}", "--weights", weights, "--json"))
    assert j["samples"] == 200 and j["accuracy"] == j["metrics"]["acc"] > 0.9 and 0 < j["metrics"]["loss"] < 1
    assert len(j["classes"]) == 10 and sum(c["support"] for c in j["classes"]) == 200
    for i, c in enumerate(j["classes"]):
        assert c["class"] == str(i) and sum(c["predicted"]) == c["support"]
        recall = c["predicted"][i] / c["support"] if c["support"] else 0
        assert abs(c["recall"] - recall) < 1e-9
        predicted = sum(k["predicted"][i] for k in j["classes"])
        assert abs(c["precision"] - (c["predicted"][i] / predicted if predicted else 0)) < 1e-9
    text = ok("eval", mlp, "--data", f"idx:{data}", "--weights", weights)
    for word in ("precision", "recall", "f1", "support", "macro avg", "true \\ predicted"):
        assert word in text, f"no {word}\n{text}"
    # the same from an artefact, weights inside or beside; batches change nothing but rounding
    ok("compile", mlp, "--train", "--weights", weights, "-o", d / "inside.gcx")
    ok("compile", mlp, "--train", "-o", d / "m.gcx")
    for args in ([d / "inside.gcx"], [d / "m.gcx", "--weights", weights], [mlp, "--weights", weights, "--batch", "7"], [mlp, "--weights", weights, "--target", "reference"]):
        k = json.loads(ok("eval", *args, "--data", f"idx:{data}", "--json"))
        assert abs(k["accuracy"] - j["accuracy"]) < 0.011 and abs(k["metrics"]["loss"] - j["metrics"]["loss"]) < 1e-4, (args, k["metrics"])


# ---- without the compiler

def test_graphc_run(d):
    graphc_run = pathlib.Path(GRAPHC).with_name("graphc-run")
    libraries = subprocess.run(["ldd", graphc_run], capture_output=True, text=True).stdout
    assert "libstdc++" in libraries and "LLVM" not in libraries and "graphc" not in libraries.replace("graphc-run", ""), libraries
    print(f"graphc-run: {os.stat(graphc_run).st_size / 1e6:.1f} MB, graphc: {os.stat(GRAPHC).st_size / 1e6:.1f} MB")
    os.chdir(d)
    os.mkdir("alone")
    alone = shutil.copy(graphc_run, "alone/graphc-run")
    me = {"program": str(pathlib.Path(alone).resolve())}
    model = f"{EXAMPLES}/shapes.graph"
    ok("compile", model, "--train", "-o", "m.gcx")
    ok("compile", model, "--target", "reference", "-o", "r.gcx")
    ok("run", "m.gcx", "--set", "N=2", "--output", "a")
    for args in (["m.gcx"], ["run", "m.gcx"]):
        shutil.rmtree("b", ignore_errors=True)
        ok(*args, "--set", "N=2", "--output", "b", **me)
        assert pathlib.Path("a/logits.npy").read_bytes() == pathlib.Path("b/logits.npy").read_bytes()
    assert json.loads(ok("bench", "m.gcx", "--repeat", "3", "--json", **me))["runs"] == 3
    both = [ok("train", "m.gcx", "--data", "shapes:256", "--epochs", "1", "--checkpoint", name, **program)
            for name, program in (("c1", {}), ("c2", me))]
    assert re.sub(r"  \d+\.\d s", "", both[0]).replace("c1", "c2") == re.sub(r"  \d+\.\d s", "", both[1]), both
    assert read_safetensors("c1/last.safetensors") == read_safetensors("c2/last.safetensors")
    j = json.loads(ok("eval", "m.gcx", "--data", "shapes:64", "--weights", "c2/last.safetensors", "--json", **me))
    assert j["samples"] == 64
    fails(1, model, says=["is text", "compile it with graphc"], **me)
    fails(1, "r.gcx", says=["reference", "cpu"], **me)
    fails(2, "evla", "m.gcx", says=["there is no command 'evla'", "did you mean 'eval'?"], **me)
    fails(1, "nope.gcx", says="graphc-run: error: there is no file 'nope.gcx'", **me)
    for c in ("check", "run", "bench", "train", "eval"):
        page = ok(c, "--help", **me)
        assert f"Example:\n  graphc-run {c}" in page and ".graph" not in page, page


def test_an_artefact_keeps_the_settings_of_its_recipe(d):
    (d / "s.graph").write_text(SCALE.replace("optimizer", "set epochs = 2\n  set batch = 50\n  optimizer").replace("Scale[N](x: f32[N, 4])", "Scale[N](image: f32[N, 1, 28, 28])")
                               .replace("y = x |> proj: Linear(3) |> relu", "y = image |> flatten(from=1) |> proj: Linear(6)").replace("y: f32[N, 3]", "y: f32[N, 6]")
                               .replace("input target: f32[N, 3]", "input label: i32[N]").replace("mean(square(y - target))", "cross_entropy(y, label)"))
    text = ok("train", "s.graph", "--data", "shapes:100", "--checkpoint", "c")
    ok("compile", "s.graph", "--train", "-o", "s.gcx")
    artefact = ok("train", "s.gcx", "--data", "shapes:100", "--checkpoint", "d", program=str(pathlib.Path(GRAPHC).with_name("graphc-run")))
    for out in (text, artefact):
        assert "epoch 2/2" in out and "epoch 3" not in out, out
    (d / "t.graph").write_text((d / "s.graph").read_text().replace("set epochs", "set epoch"))
    fails(1, "train", "t.graph", "--data", "shapes:100", says=["set epoch"])


def test_graphc_without_its_compiler(d):
    os.chdir(d)
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", "m.gcx")
    os.makedirs("alone/bin")
    me = {"program": str(pathlib.Path(shutil.copy(GRAPHC, "alone/bin/graphc")).resolve())}
    assert ok("run", "m.gcx", **me) == ok("run", "m.gcx")
    assert "parameters: 109,386" in ok("check", f"{EXAMPLES}/mlp.graph", **me)
    assert "compiler for the cpu: none" in ok("devices", **me)
    fails(1, "run", f"{EXAMPLES}/mlp.graph", says=["libgraphc_cpu_compiler.so", "--target reference"], **me)
    ok("run", f"{EXAMPLES}/mlp.graph", "--target", "reference", **me)
    for place in ("lib", "lib/graphc"):
        os.makedirs(f"alone/{place}", exist_ok=True)
        library = shutil.copy(pathlib.Path(GRAPHC).with_name("libgraphc_cpu_compiler.so"), f"alone/{place}")
        assert ok("run", f"{EXAMPLES}/mlp.graph", "--set", "N=1", **me)
        os.remove(library)
    write("alone/lib/libgraphc_cpu_compiler.so", "no library")
    fails(1, "run", f"{EXAMPLES}/mlp.graph", says=["libgraphc_cpu_compiler.so"], **me)


def test_artefacts_of_another_processor(d):
    os.chdir(d)
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", "m.gcx")
    less = dict(os.environ, GRAPHC_CPU_DISABLE="avx2")
    graphc_run = str(pathlib.Path(GRAPHC).with_name("graphc-run"))
    for program in (None, graphc_run):
        message = fails(4, "run", "m.gcx", says=["lacks avx2", "compile"], env=less, program=program)
        assert len(message) < 600, message
    fails(1, "run", f"{EXAMPLES}/mlp.graph", says="AVX2", env=less)
    # what is compiled for less runs here and gives the same
    narrow = dict(os.environ, GRAPHC_CPU_DISABLE="avx512")
    ok("compile", f"{EXAMPLES}/mlp.graph", "-o", "n.gcx", env=narrow)
    ok("run", "m.gcx", "--output", "wide")
    for env in (narrow, os.environ):
        ok("run", "n.gcx", "--output", "narrow", env=env, program=graphc_run)
        close(read_npy("wide/logits.npy")[2], read_npy("narrow/logits.npy")[2])


def main():
    global GRAPHC, EXAMPLES
    GRAPHC, EXAMPLES = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:3])
    names = sys.argv[3:] or [n[5:] for n in globals() if n.startswith("test_")]
    start = os.getcwd()
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            os.chdir(folder)
            try:
                globals()[f"test_{name}"](pathlib.Path(folder).resolve())
            except Skipped as e:
                print(f"{name}: skipped: {e}", flush=True)
                if len(names) == 1:
                    sys.exit(77)
                continue
            finally:
                os.chdir(start)
        print(f"{name}: ok, {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
