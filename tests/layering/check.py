#!/usr/bin/env python3
"""Fails on an include that breaks the layering of docs/architecture.md, or shows a third party's type outside its home.

usage: check.py ROOT [--self-test]
"""
import pathlib
import re
import sys

# layer (longest matching folder wins) -> layers it may include, besides itself
ALLOWED = {
    "runtime/base": set(),
    "ir": {"runtime/base"},
    "frontend": {"ir", "runtime/base"},
    "passes": {"ir", "runtime/base"},
    "backends": {"runtime/base"},
    "backends/host": {"backends", "runtime/base"},
    "backends/reference": {"backends", "backends/host", "ir", "runtime/base"},
    "backends/kernels": {"backends/host", "ir", "runtime/base"},
    "backends/cuda/exec": {"backends", "backends/host", "runtime/base"},
    "backends/cuda": {"backends", "backends/cuda/exec", "backends/host", "backends/kernels", "ir", "passes", "runtime/base"},
    "backends/cpu/exec": {"backends", "backends/host", "runtime/base"},
    "backends/cpu": {"backends", "backends/cpu/exec", "backends/host", "backends/kernels", "ir", "passes", "runtime/base"},
    "runtime": {"backends", "runtime/base"},
}
# an include of this kind may stand only in these folders; headers of the .h kind nowhere else at all
HOMES = {
    r"llvm(-c)?/": ["backends/cpu"],
    r"(cuda|cudnn|nvrtc|cublas)": ["backends/cuda"],
    r"flatbuffers/|.*_generated\.h": ["ir", "runtime"],
    r"nlohmann/": ["runtime", "tools"],
    r"CLI/": ["tools"],
}
NEVER_IN_HEADERS = re.compile(r"llvm(-c)?/|flatbuffers/|.*_generated\.h|nlohmann/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    for folder in sorted(ALLOWED, key=len, reverse=True):
        if path == folder or path.startswith(folder + "/"):
            return folder
    return None


def check_file(path, text):
    """All complaints about one file, `path` relative to the root."""
    layer = layer_of(path)
    for number, line in enumerate(text.splitlines(), 1):
        m = INCLUDE.match(line)
        if not m:
            continue
        target = m.group(2)
        for pattern, homes in HOMES.items():
            if re.match(pattern, target) and not any(path.startswith(h + "/") for h in homes) and not path.startswith("tests/"):
                yield f"{path}:{number}: {target} may be included only in {', '.join(homes)}"
        if path.endswith(".h") and NEVER_IN_HEADERS.match(target) and not path.startswith("tests/"):
            yield f"{path}:{number}: {target} in a header shows its types to others; include it in the .cpp"
        if layer is None or m.group(1) == "<" or target.endswith("_generated.h"):
            continue
        other = layer_of(target)
        if other is None and target.split("/")[0] in ("tools", "tests", "examples"):
            yield f"{path}:{number}: {layer} may not include {target}"
        elif other is not None and other != layer and other not in ALLOWED[layer]:
            yield f"{path}:{number}: {layer} may not include {target} ({other})"


def self_test():
    bad = [
        ("runtime/base/a.h", '#include "ir/graph.h"'),
        ("runtime/executor.cpp", '#include "ir/graph.h"'),
        ("runtime/executor.cpp", '#include "passes/fuse.h"'),
        ("backends/cpu/exec/run.cpp", '#include "ir/loops/loops.h"'),
        ("backends/cpu/exec/run.cpp", '#include "backends/cpu/emit_llvm.h"'),
        ("passes/fuse.cpp", '#include "backends/graphc_plugin.h"'),
        ("passes/fuse.cpp", "#include <llvm/IR/Module.h>"),
        ("backends/cpu/emit_llvm.h", "#include <llvm/IR/Module.h>"),
        ("ir/graph.cpp", '#include "tools/driver/driver.h"'),
    ]
    good = [
        ("passes/fuse.cpp", '#include "ir/graph.h"'),
        ("backends/cpu/emit_llvm.cpp", "#include <llvm/IR/Module.h>"),
        ("tools/driver/driver.cpp", '#include "passes/pipeline.h"'),
        ("runtime/program.cpp", '#include "runtime/program_generated.h"'),
    ]
    for path, text in bad:
        assert list(check_file(path, text)), f"not noticed: {path}: {text}"
    for path, text in good:
        assert not list(check_file(path, text)), f"wrongly refused: {path}: {text}"


def main():
    root = pathlib.Path(sys.argv[1])
    self_test()
    complaints, files = [], 0
    for top in ("runtime", "ir", "frontend", "passes", "backends", "tools"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".h", ".cpp", ".c"):
                files += 1
                complaints += check_file(path.relative_to(root).as_posix(), path.read_text())
    print("\n".join(complaints) or f"{files} files, no include breaks the layering")
    return 1 if complaints or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
