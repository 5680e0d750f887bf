#!/usr/bin/env python3
"""Runs a bundle on a machine with an NVIDIA card. usage: run.py [BUNDLE] [--out DIR] [--device cuda:0] [PART..]"""
import argparse
import datetime
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

PARTS = ["correct", "determinism", "train", "sanitizer", "bench", "torch"]


def floats_of_npy(path):
    """(shape, values) of a little-endian f32 .npy file."""
    raw = pathlib.Path(path).read_bytes()
    if raw[:6] != b"\x93NUMPY":
        raise ValueError(f"{path} is no .npy file")
    size, at = (struct.unpack("<H", raw[8:10])[0], 10) if raw[6] == 1 else (struct.unpack("<I", raw[8:12])[0], 12)
    header = raw[at : at + size].decode("latin1")
    if "'<f4'" not in header:
        raise ValueError(f"{path} isn't f32: {header}")
    return re.search(r"\(([^)]*)\)", header).group(1), memoryview(raw)[at + size :].cast("f")


def tensors_of(path):
    """name -> f32 values of a safetensors file; other types are left out."""
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__" and t["dtype"] == "F32":
            begin, end = t["data_offsets"]
            out[name] = memoryview(raw)[8 + size + begin : 8 + size + end].cast("f")
    return out


def distance(got, want):
    """|got - want| / |want| in the 2-norm; infinite if got holds a NaN where want doesn't."""
    try:
        import numpy

        g, w = numpy.asarray(got, numpy.float64), numpy.asarray(want, numpy.float64)
        d, n = float(numpy.linalg.norm(g - w)), float(numpy.linalg.norm(w))
    except ImportError:
        d = math.sqrt(sum((g - w) ** 2 for g, w in zip(got, want)))
        n = math.sqrt(sum(w * w for w in want))
    return math.inf if math.isnan(d) else d / (n or 1.0)


class Runner:
    def __init__(self, bundle, out, device):
        self.bundle, self.out, self.device = bundle, out, device
        self.manifest = json.loads((bundle / "manifest.json").read_text())
        loader = next((bundle / "lib").glob("ld-linux*"), None)
        prefix = [str(loader), "--library-path", str(bundle / "lib")] if loader else []
        # driver and libraries of the machine are found by their full names, the rest is ours
        self.graphc_run = prefix + [str(bundle / "bin" / "graphc-run")]
        self.graphc = prefix + [str(bundle / "bin" / "graphc")]
        self.failures = []

    def call(self, command, check=True, timeout=600):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(str(c) for c in command)}: exit code {done.returncode}\n{done.stderr.strip()}")
        return done

    def fail(self, what):
        self.failures.append(what)
        print(f"FAILED {what}", flush=True)

    def machine(self):
        card, driver = "unknown", "unknown"
        if shutil.which("nvidia-smi"):
            line = self.call(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], check=False).stdout
            if line.strip():
                card, driver = [x.strip() for x in line.splitlines()[0].split(",")][:2]
        devices = self.call(self.graphc + ["devices"], check=False).stdout
        if card == "unknown":
            m = re.search(r"^cuda:0\s+([^,\n]+)", devices, re.M)
            card = m.group(1) if m else card
        return {"card": card, "driver": driver, "devices": devices, "f32_peak": self.f32_peak()}

    def f32_peak(self):
        """FLOP/s of f32 multiply-adds by the card's figures: 64 a clock and multiprocessor on 8.0, 128 on others; None: unknown."""
        text = self.call(self.graphc + ["devices", "--profile", self.device.split(":")[-1]], check=False).stdout
        p = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
        try:
            return 2e6 * (64 if p["arch"] == "sm_80" else 128) * int(p["multiprocessors"]) * int(p["clock_mhz"])
        except (KeyError, ValueError):
            return None

    def run_model(self, case, directory):
        self.call(self.graphc_run + ["run", self.bundle / case["gcx"], "--device", self.device, "--input", "random", "--seed",
                                     case["seed"], "--output", directory])

    def correct(self):
        rows = []
        for case in self.manifest["correct"]:
            with tempfile.TemporaryDirectory() as d:
                try:
                    start = time.perf_counter()
                    self.run_model(case, d)
                    seconds = time.perf_counter() - start
                    worst = 0.0
                    for want in sorted((self.bundle / "expected" / case["name"]).glob("*.npy")):
                        (ws, w), (gs, g) = floats_of_npy(want), floats_of_npy(pathlib.Path(d) / want.name)
                        worst = max(worst, distance(g, w) if ws == gs else math.inf)
                except (RuntimeError, ValueError, OSError) as e:
                    self.fail(f"correct {case['name']}: {e}")
                    rows.append({"name": case["name"], "error": str(e)})
                    continue
            ok = worst <= case["tolerance"]
            if not ok:
                self.fail(f"correct {case['name']}: off by {worst:.2e}, allowed {case['tolerance']:.0e}")
            rows.append({"name": case["name"], "distance": worst, "tolerance": case["tolerance"], "ok": ok, "seconds": seconds})
        return rows

    def determinism(self):
        rows = []
        for case in self.manifest["correct"]:
            digests = set()
            try:
                for _ in range(3):
                    with tempfile.TemporaryDirectory() as d:
                        self.run_model(case, d)
                        h = hashlib.sha256()
                        for f in sorted(pathlib.Path(d).glob("*.npy")):
                            h.update(f.read_bytes())
                        digests.add(h.hexdigest())
            except RuntimeError as e:
                self.fail(f"determinism {case['name']}: {e}")
                continue
            if len(digests) != 1:
                self.fail(f"determinism {case['name']}: {len(digests)} different results in 3 runs")
            rows.append({"name": case["name"], "results": len(digests)})
        return rows

    def train(self):
        rows = []
        for case in self.manifest["train"]:
            with tempfile.TemporaryDirectory() as d:
                try:
                    start = time.perf_counter()
                    self.call(self.graphc_run + ["train", self.bundle / case["gcx"], "--device", self.device, "--data",
                                                 case["data"], "--val", case["data"], "--epochs", 1, "--batch", case["batch"],
                                                 "--seed", case["seed"], "--checkpoint", d])
                    seconds = time.perf_counter() - start
                    got, want = tensors_of(pathlib.Path(d) / "last.safetensors"), tensors_of(self.bundle / case["weights"])
                    # All tensors as one vector: what Adam makes of a gradient that is nothing but rounding is anyone's guess.
                    names = sorted(want)
                    worst = distance([x for n in names for x in got[n]], [x for n in names for x in want[n]]) \
                        if got.keys() >= want.keys() else math.inf
                except (RuntimeError, OSError) as e:
                    self.fail(f"train {case['name']}: {e}")
                    continue
            ok = worst <= case["tolerance"]
            if not ok:
                self.fail(f"train {case['name']}: weights off by {worst:.2e} after {case['steps']} steps")
            rows.append({"name": case["name"], "steps": case["steps"], "distance": worst, "ok": ok, "seconds": seconds})
        return rows

    def sanitizer(self):
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not os.access(tool, os.X_OK):
            return {"skipped": "compute-sanitizer isn't here"}
        rows = []
        for case in self.manifest["correct"]:
            if case["name"] in ("resnet50", "gpt2"):
                continue
            for kind in ("memcheck", "racecheck"):
                with tempfile.TemporaryDirectory() as d:
                    done = self.call([tool, "--tool", kind, "--error-exitcode", 9] + self.graphc_run
                                     + ["run", self.bundle / case["gcx"], "--device", self.device, "--input", "random", "--seed",
                                        case["seed"], "--output", d], check=False)
                if done.returncode != 0:
                    self.fail(f"sanitizer {kind} {case['name']}: {done.stdout[-2000:]}{done.stderr[-500:]}")
                rows.append({"name": case["name"], "tool": kind, "ok": done.returncode == 0})
        return rows

    def bench(self):
        rows = []
        for case in self.manifest["bench"]:
            try:
                text = self.call(self.graphc_run + ["bench", self.bundle / case["gcx"], "--device", self.device, "--json"]
                                 + (["--train"] if case["training"] else [])).stdout
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                self.fail(f"bench {case['name']}: {e}")
                continue
            j = json.loads(text)
            rows.append({"name": case["name"], **{k: j[k] for k in ("median_ms", "p10_ms", "p90_ms", "runs", "flops", "bytes",
                                                                   "peak_memory_bytes") if k in j}})
            print(f"{case['name']}: {j['median_ms']:.3f} ms", flush=True)
        return rows

    def torch(self):
        done = self.call([sys.executable, self.bundle / "torch_peers.py"], check=False, timeout=590)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                return json.loads(line)
        return {"skipped": (done.stderr.strip().splitlines() or ["torch isn't here"])[-1]}


def markdown(results):
    m = results["machine"]
    lines = [f"## {m['card']}, {results['date']}, commit {results['commit'][:12]}", "",
             f"Driver {m['driver']}. Artefacts for {results['arch']}. Strict f32: no TF32 anywhere, in torch neither.", ""]
    if rows := results.get("correct"):
        lines += ["| model | off by (relative 2-norm) | allowed |", "|---|---|---|"]
        lines += [f"| {r['name']} | {r['distance']:.1e} | {r['tolerance']:.0e} |" if "distance" in r else
                  f"| {r['name']} | failed: {r['error'].splitlines()[-1]} | |" for r in rows] + [""]
    if rows := results.get("train"):
        lines += [f"Training {r['name']}: after {r['steps']} steps the weights are off by {r['distance']:.1e} from the host's."
                  for r in rows] + [""]
    if rows := results.get("determinism"):
        same = all(r["results"] == 1 for r in rows)
        lines += [f"Three runs of {len(rows)} models each: {'the same bits' if same else 'NOT the same bits'}.", ""]
    sanitizer = results.get("sanitizer")
    if isinstance(sanitizer, list):
        lines += [f"compute-sanitizer: {sum(r['ok'] for r in sanitizer)} of {len(sanitizer)} runs without a finding.", ""]
    elif sanitizer:
        lines += [f"compute-sanitizer: not run, {sanitizer['skipped']}.", ""]
    if rows := results.get("bench"):
        peers = results.get("torch", {})
        peak = m.get("f32_peak")
        lines += ["| | graphc, ms | TFLOP/s | of the f32 peak (MFU) | GB/s | torch eager, ms | torch.compile, ms | torch.compile / graphc |",
                  "|---|---|---|---|---|---|---|---|"]
        for r in rows:
            eager, compiled = (peers.get(r["name"], {}).get(k) for k in ("eager_ms", "compile_ms"))
            cell = lambda v, form="{:.3f}": form.format(v) if v else "-"
            rate = 1e3 * r["flops"] / r["median_ms"]
            lines.append(f"| {r['name']} | {r['median_ms']:.3f} | {rate / 1e12:.2f} | {cell(peak and rate / peak, '{:.1%}')} | "
                         f"{r['bytes'] / r['median_ms'] / 1e6:.0f} | {cell(eager)} | {cell(compiled)} | "
                         f"{cell(compiled and compiled / r['median_ms'], '{:.2f}')} |")
        if "skipped" in peers:
            lines += ["", f"torch: {peers['skipped']}"]
        lines.append("")
    if results["failures"]:
        lines += ["Failures:", ""] + [f"* {f.splitlines()[0]}" for f in results["failures"]] + [""]
    return "\n".join(lines)


def record(results, document):
    """Puts a run's section first in docs/gpu-results.md. What no card gave doesn't go there."""
    head = "# Results on GPUs\n\nWritten by `tests/gpu/run record`; newest first.\n\n"
    card = json.loads((results / "results.json").read_text())["machine"]["card"]
    if "stand-in" in card:
        sys.exit(f"{results} is of the stand-in, which is no card")
    old = document.read_text() if document.exists() else head
    document.write_text(head + (results / "results.md").read_text().strip() + "\n\n" + old.removeprefix(head))
    print(f"{document}: {results}/results.md added")


def main():
    if sys.argv[1:2] == ["record"]:
        if len(sys.argv) != 3 or not pathlib.Path(sys.argv[2], "results.md").exists():
            sys.exit("usage: run record RESULTS, a folder with the results.md of a run")
        return record(pathlib.Path(sys.argv[2]), pathlib.Path(__file__).resolve().parents[2] / "docs" / "gpu-results.md")
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("bundle", nargs="?", type=pathlib.Path)
    p.add_argument("parts", nargs="*")
    p.add_argument("--out", type=pathlib.Path)
    p.add_argument("--device", default="cuda:0")
    a = p.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    if a.bundle and str(a.bundle) in PARTS:  # the bundle is this folder
        a.parts.insert(0, str(a.bundle))
        a.bundle = None
    bundle = (a.bundle or here).resolve()
    if not (bundle / "manifest.json").exists():
        sys.exit(f"{bundle} is no bundle; make one with `tests/gpu/run pack BUILD_DIR BUNDLE`")
    unknown = [x for x in a.parts if x not in PARTS]
    if unknown:
        sys.exit(f"there is no part '{unknown[0]}'; there are: {', '.join(PARTS)}")
    out = a.out or bundle / "results"
    out.mkdir(parents=True, exist_ok=True)
    runner = Runner(bundle, out, a.device)
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() and a.parts else {}
    results |= {"machine": runner.machine(), "arch": runner.manifest["arch"], "commit": runner.manifest["commit"],
                "date": datetime.date.today().isoformat()}
    failed = {f for f in results.get("failures", []) if f.split()[0] not in a.parts} if a.parts else set()
    for part in a.parts or PARTS:
        start = time.perf_counter()
        results[part] = getattr(runner, part)()
        print(f"{part}: {time.perf_counter() - start:.1f} s", flush=True)
        results["failures"] = sorted(failed) + runner.failures
        path.write_text(json.dumps(results, indent=1))
    (out / "results.md").write_text(markdown(results))
    checks = sum(len(results[x]) for x in ("correct", "determinism", "train") if isinstance(results.get(x), list))
    print(f"{len(results['failures'])} failures in {checks} checks; {out}/results.md")
    sys.exit(1 if results["failures"] else 0)


if __name__ == "__main__":
    main()
