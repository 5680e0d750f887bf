# lit configuration of the pass tests: core text in, text out.
#   lit -v tests/passes --param graphc_opt_dir=build/bin        (ctest does it for each file: passes.lit.<pass>/<case>)
import os
import shutil

import lit.formats

config.name = "passes"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".graph"]
config.test_source_root = os.path.dirname(__file__)
# Scratch files (%t) go beside the build; without one, beside the programs.
programs = os.path.abspath(lit_config.params.get("graphc_opt_dir", os.path.join(config.test_source_root, "..", "..", "build", "bin")))
config.test_exec_root = os.path.abspath(lit_config.params.get("scratch", os.path.join(programs, "..", "lit")))
if not os.access(os.path.join(programs, "graphc-opt"), os.X_OK):
    lit_config.fatal(f"there is no graphc-opt in {programs}: build it, or name its folder with --param graphc_opt_dir=FOLDER")

# FileCheck and not come with LLVM: unversioned ones, Debian's FileCheck-19, or those in LLVM's own folder.
llvm = "/usr/lib/llvm-19/bin"
for name in ("FileCheck", "not"):
    found = shutil.which(f"{name}-19") or shutil.which(name) or os.path.join(llvm, name)
    if not os.path.exists(found):
        lit_config.fatal(f"there is no {name}: tools/setup installs it (Debian package llvm-19-tools)")
    config.substitutions.append((rf"\b{name}\b", found))
config.environment["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
