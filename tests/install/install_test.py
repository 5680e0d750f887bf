#!/usr/bin/env python3
"""Installs into a scratch prefix, runs the installed programs, and builds examples/embed with find_package(graphc).

usage: install_test.py CMAKE BUILD EXAMPLES [STANDIN]      STANDIN: libraries that stand for a card
"""
import array
import os
import pathlib
import struct
import subprocess
import sys
import tempfile


def run(*command, **kw):
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **kw)
    assert p.returncode == 0, f"{' '.join(map(str, command))}: exit code {p.returncode}\n{p.stdout[-3000:]}\n{p.stderr[-3000:]}"
    return p.stdout


def main():
    cmake, build, examples, *standin = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        d = pathlib.Path(folder)
        prefix = d / "prefix"
        run(cmake, "--install", build, "--prefix", prefix)
        env = dict(os.environ, PATH=f"{prefix}/bin:{os.environ['PATH']}")
        at = {"cwd": d, "env": env}
        for name in ("bin/graphc", "bin/graphc-run", "bin/graphc-opt", "lib/graphc/libgraphc_cpu_compiler.so", "share/graphc/examples/mlp.graph"):
            assert (prefix / name).exists(), f"{name} isn't installed"
        for name in ("runtime/executor.h", "runtime/base/result.h", "backends/registry.h", "backends/graphc_plugin.h"):
            assert (prefix / "include/graphc" / name).exists(), f"{name} isn't installed"

        assert f"{prefix}" in run("graphc", "devices", **at), "the compiler isn't the installed one"
        run("graphc", "compile", prefix / "share/graphc/examples/mlp.graph", "-o", "mlp.gcx", **at)
        assert "logits: f32[3, 10]" in run("graphc-run", "mlp.gcx", "--set", "N=3", **at)

        app = d / "app"
        run(cmake, "-G", "Ninja", "-S", pathlib.Path(examples) / "embed", "-B", app, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
        run(cmake, "--build", app)
        printed = [float(x) for x in run(app / "embed", "mlp.gcx", "2", **at).split()]
        # the same through the program
        pixels = array.array("f", (i % 256 / 255 for i in range(2 * 28 * 28)))
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 28, 28), }".ljust(117) + "\n"
        (d / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + pixels.tobytes())
        run("graphc", "run", "mlp.gcx", "--input", "image=x.npy", "--output", "logits=y.npy", **at)
        raw = (d / "y.npy").read_bytes()
        values = array.array("f", raw[10 + struct.unpack("<H", raw[8:10])[0] :])
        assert len(printed) == len(values) == 20 and max(abs(a - b) for a, b in zip(printed, values)) < 1e-6
        if standin:  # the same on a card
            at["env"] = dict(env, GRAPHC_CUDA_LIBRARIES=standin[0])
            run("graphc", "compile", prefix / "share/graphc/examples/mlp.graph", "--target", "cuda:sm_90", "-o", "card.gcx", **at)
            on_card = [float(x) for x in run(app / "embed", "card.gcx", "2", **at).split()]
            # other kernels, so other rounding; both are printed to six places
            assert len(on_card) == 20 and max(abs(a - b) for a, b in zip(printed, on_card)) < 2e-6, (printed, on_card)
        p = subprocess.run([app / "embed", "nope.gcx", "2"], capture_output=True, text=True)
        assert p.returncode == 1 and "nope.gcx" in p.stderr, p.stderr
        libraries = run("ldd", app / "embed")
        assert "LLVM" not in libraries, libraries
    print("installed, ran, embedded")


if __name__ == "__main__":
    main()
