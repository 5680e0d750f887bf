#!/usr/bin/env python3
"""What goes wrong with cards, as the user sees it: message and exit code. usage: errors_on_standin.py GRAPHC GRAPHC_RUN EXAMPLES STANDIN"""
import os
import pathlib
import subprocess
import sys
import tempfile

graphc, graphc_run, examples, standin = sys.argv[1:]
model = os.path.join(examples, "mlp.graph")
wrong = 0


def call(command, libraries=standin, **settings):
    env = dict(os.environ, GRAPHC_CUDA_LIBRARIES=libraries, **{f"STANDIN_{k}": v for k, v in settings.items()})
    return subprocess.run(command, capture_output=True, text=True, env=env)


def expect(code, message, command, **settings):
    global wrong
    done = call(command, **settings)
    if done.returncode != code or message not in done.stderr + done.stdout:
        wrong += 1
        print(f"{' '.join(command)} {settings}\n  exit code {done.returncode} instead of {code}, or without '{message}':\n  {done.stderr}{done.stdout}")


with tempfile.TemporaryDirectory() as d:
    gcx = os.path.join(d, "mlp.gcx")
    compile_for = lambda target: [graphc, "compile", model, "--set", "N=2", "--target", target, "-o", gcx]
    run = [graphc_run, "run", gcx, "--input", "random"]
    expect(1, "did you mean 'h200'?", compile_for("cuda:h20"))
    expect(1, "did you mean 'cuda'?", compile_for("cdua"))
    expect(1, "there is no CUDA target 'sm_70'", compile_for("cuda:sm_70"))
    expect(1, "takes nothing after its name", compile_for("cpu:0"))
    expect(4, "NVRTC (libnvrtc.so.13", compile_for("cuda:h200"), libraries=d)
    expect(4, "the NVIDIA driver (libcuda.so.1) was not found", compile_for("cuda"), libraries=d)
    expect(0, "3 kernels for cuda:h200", compile_for("cuda:h200"))
    expect(0, "logits: f32[2, 10]", run)
    expect(0, "logits: f32[2, 10]", run, ARCH="sm_120")  # by the PTX
    expect(4, "sm_75", run, ARCH="sm_75")
    expect(4, "graphc needs one for CUDA 12.0 or newer", run, DRIVER="11000")
    expect(4, "shows no card", run, DEVICES="0")
    expect(4, "the NVIDIA driver (libcuda.so.1) was not found", run, libraries=d)
    expect(4, "there is no card 3", run + ["--device", "cuda:3"])
    expect(0, "logits: f32[2, 10]", run + ["--device", "cuda:1"], DEVICES="2")
    expect(2, "is no device", run + ["--device", "gpu"])
    expect(4, "out of memory", run, MEMORY="1000")
    expect(4, "the budget is 1024", run + ["--max-memory", "1KiB"])
    expect(0, "cuda:0", [graphc, "devices"])
    profile = call([graphc, "devices", "--profile", "0"]).stdout
    pathlib.Path(d, "card.txt").write_text(profile)
    expect(0, "kernels for cuda:", compile_for("cuda:" + os.path.join(d, "card.txt")))
    expect(0, "launch k: ", [graphc, "explain", model, "--target", "cuda:h200", "--placement"])
print(f"{wrong} wrong")
sys.exit(1 if wrong else 0)
