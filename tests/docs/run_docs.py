#!/usr/bin/env python3
"""Runs every example of README.md and docs/*.md.

usage: run_docs.py ROOT BIN_DIR [FILE...]

* A fenced block ```graph NAME.graph is written to NAME.graph in a scratch folder and must pass `graphc check` (or parse in `graphc-opt` if it
  is core text). With `error` after the name it must fail, and the block ```text that follows must be what is printed.
* A fenced block ```console holds `$ command` lines, each followed by its output. The commands run in the scratch folder with the
  programs on PATH and examples/ beside them. Every line of output that is shown must match, in order; `...` in a line
  matches anything, a line `...` any lines. Words that start with `tools/` make the block be skipped: they set machines up.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FENCE = re.compile(r"^```(\w+)[ \t]*(.*)$")


def blocks(text):
    """(line, language, rest of the fence line, body) of each fenced block."""
    lines, i = text.splitlines(), 0
    while i < len(lines):
        m = FENCE.match(lines[i])
        if not m:
            i += 1
            continue
        start, body = i, []
        i += 1
        while i < len(lines) and lines[i].strip() != "```":
            body.append(lines[i])
            i += 1
        i += 1
        yield start + 1, m.group(1), m.group(2).strip(), body


def line_pattern(line):
    return re.compile(".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"\s*$")


def match_output(expected, actual):
    """None if the shown lines occur in order (gaps only where `...` stands); otherwise what is missing."""
    position, gap = 0, False
    for line in expected:
        if not line.strip():
            continue
        if line.strip() == "...":
            gap = True
            continue
        pattern = line_pattern(line)
        while position < len(actual) and not pattern.match(actual[position]):
            if not gap and actual[position].strip():
                return f"expected: {line}\n   found: {actual[position]}"
            position += 1
        if position == len(actual):
            return f"missing: {line}"
        position, gap = position + 1, False
    return None


def run(command, folder, env):
    p = subprocess.run(["bash", "-c", command], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    return p.returncode, p.stdout


def console_steps(body):
    steps = []
    for line in body:
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif steps:
            steps[-1][1].append(line)
    return steps


def check_file(path, root, env):
    failures, count, wants_text = [], 0, None
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(root / "examples", pathlib.Path(folder) / "examples")
        for line, language, rest, body in blocks(path.read_text()):
            where = f"{path.relative_to(root)}:{line}"
            if language == "graph":
                words = rest.split() or ["block.graph"]
                pathlib.Path(folder, words[0]).write_text("\n".join(body) + "\n")
                header = next((text for text in body if text.strip() and not text.startswith("#")), "")
                core = header.split()[2:3] == ["core"]
                code, out = run(f"graphc-opt {words[0]}" if core else f"graphc check {words[0]}", folder, env)
                count += 1
                if "error" in words[1:]:
                    wants_text = (where, out)
                    if code != 1:
                        failures.append(f"{where}: should be refused with exit code 1, got {code}\n{out}")
                elif code != 0:
                    failures.append(f"{where}: exit code {code}\n{out}")
            elif language == "text" and wants_text:
                problem = match_output(body, wants_text[1].splitlines())
                if problem:
                    failures.append(f"{wants_text[0]}: the message differs\n{problem}\n{wants_text[1]}")
                wants_text = None
            elif language == "console":
                steps = console_steps(body)
                if any(word.startswith("tools/") for command, _ in steps for word in command.split()):
                    continue
                for command, expected in steps:
                    code, out = run(command, folder, env)
                    count += 1
                    problem = match_output(expected, out.splitlines())
                    if problem or (code != 0 and not expected):
                        failures.append(f"{where}: $ {command} (exit code {code})\n{problem or ''}\n{out}")
    return count, failures


def self_test():
    assert match_output(["a", "...", "c 1...x"], ["a", "b", "c 123x"]) is None
    assert match_output(["a", "c"], ["a", "b", "c"])
    assert match_output(["a", "d"], ["a"])


def main():
    self_test()
    root, bin_dir = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    env = dict(os.environ, PATH=f"{bin_dir}:{os.environ['PATH']}")
    files = [pathlib.Path(f).resolve() for f in sys.argv[3:]] or [root / "README.md"] + sorted((root / "docs").glob("*.md"))
    total, failed = 0, []
    for path in files:
        count, failures = check_file(path, root, env)
        total += count
        failed += failures
    print("\n\n".join(failed) or f"{total} examples of {len(files)} pages do what the pages say")
    return 1 if failed or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
