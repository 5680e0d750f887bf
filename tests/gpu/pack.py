#!/usr/bin/env python3
"""Makes the bundle that tests/gpu/run runs on a machine with a card. usage: pack.py BUILD_DIR BUNDLE [--small] [--arch sm_90a]"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXAMPLES = ROOT / "examples"

# name, example, sizes compiled in, seed, tolerance of the outputs' relative 2-norm
CORRECT = [
    ("mlp", "mlp", {"N": 64}, 1, 2e-5),
    ("mnist_cnn", "mnist_cnn", {"N": 64}, 2, 2e-5),
    ("shapes", "shapes", {"N": 32}, 3, 2e-5),
    ("chargpt", "chargpt", {"N": 4, "T": 64}, 4, 2e-5),
    ("resnet50", "resnet50", {"N": 2}, 5, 1e-4),
    ("gpt2", "gpt2", {"N": 1, "T": 64}, 6, 1e-4),
]
SMALL = {"mlp", "mnist_cnn", "chargpt"}
# name, example, sizes, the training step or inference
BENCH = [
    ("resnet50 inference, batch 1", "resnet50", {"N": 1}, False),
    ("resnet50 inference, batch 128", "resnet50", {"N": 128}, False),
    ("resnet50 training step, batch 128", "resnet50", {"N": 128}, True),
    ("gpt2 training step, 8 x 1024", "gpt2", {"N": 8, "T": 1024}, True),
    ("mnist_cnn training step, batch 64", "mnist_cnn", {"N": 64}, True),
]


def sets(sizes):
    return [a for name, value in sizes.items() for a in ("--set", f"{name}={value}")]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(c) for c in command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def copy_program(program, bundle):
    """The program with every library it links and the loader: the other machine may have an older C library."""
    (bundle / "bin").mkdir(exist_ok=True)
    (bundle / "lib").mkdir(exist_ok=True)
    shutil.copy2(program, bundle / "bin")
    subprocess.run(["strip", str(bundle / "bin" / program.name)], check=False)
    libraries = set(re.findall(r"(/\S+\.so\S*)", run("ldd", program)))
    # opened at run time by NVIDIA's driver, and so to be of the same C library as ours
    libc = next(pathlib.Path(l).resolve().parent for l in libraries if "/libc.so" in l)
    for extra in ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6"):
        if (libc / extra).exists():
            libraries.add(str(libc / extra))
    for library in libraries:
        shutil.copy2(pathlib.Path(library).resolve(), bundle / "lib" / pathlib.Path(library).name)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("build", type=pathlib.Path)
    p.add_argument("bundle", type=pathlib.Path)
    p.add_argument("--small", action="store_true", help="a few small models: what the tests run on the stand-in")
    p.add_argument("--arch", default="sm_90a")
    a = p.parse_args()
    graphc, graphc_run = a.build / "bin" / "graphc", a.build / "bin" / "graphc-run"
    shutil.rmtree(a.bundle, ignore_errors=True)
    a.bundle.mkdir(parents=True)
    for program in (graphc_run, graphc):
        copy_program(program, a.bundle)
    for script in ("run", "run.py", "torch_peers.py"):
        shutil.copy2(HERE / script, a.bundle)
    manifest = {"arch": a.arch, "correct": [], "bench": [], "train": []}
    try:
        manifest["commit"] = run("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    except SystemExit:
        manifest["commit"] = "unknown"
    models = a.bundle / "models"
    models.mkdir()
    target = f"cuda:{a.arch}"
    for name, example, sizes, seed, tolerance in CORRECT:
        if a.small and name not in SMALL:
            continue
        gcx = models / f"correct_{name}.gcx"
        host = a.bundle / "host.gcx"
        expected = a.bundle / "expected" / name
        run(graphc, "compile", EXAMPLES / f"{example}.graph", *sets(sizes), "--target", target, "-o", gcx)
        run(graphc, "compile", EXAMPLES / f"{example}.graph", *sets(sizes), "-o", host)
        expected.mkdir(parents=True)
        run(graphc_run, "run", host, "--input", "random", "--seed", seed, "--output", expected)
        host.unlink()
        manifest["correct"].append({"name": name, "gcx": f"models/{gcx.name}", "seed": seed, "tolerance": tolerance})
    # a training run whose weights must follow the host's
    for name, example, batch, steps in [("shapes", "shapes", 32, 20)]:
        gcx, host = models / f"train_{name}.gcx", a.bundle / "host.gcx"
        run(graphc, "compile", EXAMPLES / f"{example}.graph", "--train", "--target", target, "-o", gcx)
        run(graphc, "compile", EXAMPLES / f"{example}.graph", "--train", "-o", host)
        data, expected = f"shapes:{steps * batch}", a.bundle / "expected" / f"train_{name}"
        run(graphc_run, "train", host, "--data", data, "--val", data, "--epochs", 1, "--batch", batch, "--seed", 7,
            "--checkpoint", expected)
        host.unlink()
        for extra in expected.iterdir():
            if extra.name != "last.safetensors":
                extra.unlink()
        manifest["train"].append({"name": name, "gcx": f"models/{gcx.name}", "data": data, "batch": batch, "steps": steps,
                                  "seed": 7, "weights": f"expected/train_{name}/last.safetensors", "tolerance": 2e-3})
    for name, example, sizes, training in BENCH:
        if a.small and example not in SMALL:
            continue
        gcx = models / f"bench_{re.sub('[^a-z0-9]+', '_', name)}.gcx"
        run(graphc, "compile", EXAMPLES / f"{example}.graph", *sets(sizes), *(["--train"] if training else []),
            "--target", target, "-o", gcx)
        manifest["bench"].append({"name": name, "gcx": f"models/{gcx.name}", "training": training, "example": example,
                                  "sizes": sizes})
    (a.bundle / "manifest.json").write_text(json.dumps(manifest, indent=1))
    total = sum(f.stat().st_size for f in a.bundle.rglob("*") if f.is_file())
    print(f"{a.bundle}: {len(manifest['correct'])} models to check, {len(manifest['bench'])} to time, "
          f"{total / 2**20:.1f} MiB")
    if total > 64 << 20:
        sys.exit("the bundle is larger than 64 MiB")


if __name__ == "__main__":
    main()
