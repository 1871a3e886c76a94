#!/usr/bin/python3
"""What the compiler and the linker put into a program against the exploitation of mistakes: is it in all that is installed?

hardening.py BUILD COMPILER: installs BUILD into a temporary folder, prints one line for each thing that is missing, and exits
with 1 when there is one. First a program without any of it is made: whoever finds nothing missing there finds nothing.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def readelf(path, *what):
    return subprocess.run(["readelf", "-W", *what, path], capture_output=True, text=True, check=True).stdout


class Elf:
    def __init__(self, path):
        self.headers, self.dynamic, self.symbols = (readelf(path, "-hl"), readelf(path, "-d"), readelf(path, "--dyn-syms"))
        self.shared = ".so" in path.name

    def segment(self, name):
        return re.search(rf"^\s+{name}\s.*", self.headers, re.M)


# What is missing -> is it there?
CHECKS = {
    "position independent": lambda e: "DYN" in e.headers and (e.shared or re.search(r"FLAGS_1.*\bPIE\b", e.dynamic)),
    "read-only relocations": lambda e: e.segment("GNU_RELRO"),
    "all symbols bound at the start": lambda e: re.search(r"\(FLAGS(_1)?\).*\b(BIND_)?NOW\b", e.dynamic),
    "a stack that is not executable": lambda e: e.segment("GNU_STACK") and " RW " in e.segment("GNU_STACK").group(),
    "no segment that can be written and executed": lambda e: not re.search(r"^\s+LOAD\s.* RWE ", e.headers, re.M),
    "no relocations in its code": lambda e: "TEXTREL" not in e.dynamic,
    "no search path for libraries of its own": lambda e: "(RPATH)" not in e.dynamic and "(RUNPATH)" not in e.dynamic,
    "canaries on the stack": lambda e: "__stack_chk_fail" in e.symbols,
    "checked calls of the C library": lambda e: re.search(r"\b__\w+_chk@", e.symbols),
}
FLAGS = ["-fstack-protector-strong", "-fstack-clash-protection", "-D_FORTIFY_SOURCE=3"]
FLAGS_OF = {"x86_64": ["-fcf-protection=full"], "aarch64": ["-mbranch-protection=standard"]}


def missing(path):
    elf = Elf(path)
    return [name for name, there in CHECKS.items() if not there(elf)]


def unprotected(folder, compiler):
    """A program that has nothing of the sort, but for what no linker still makes by itself."""
    source, program = folder / "bare.c", folder / "bare"
    source.write_text("#include <string.h>\nint main(int n, char **v)\n{\n\tchar b[64];\n\tstrcpy(b, v[0]);\n\treturn b[n];\n}\n")
    subprocess.run([compiler, "-O1", "-U_FORTIFY_SOURCE", "-fno-stack-protector", "-no-pie", "-Wl,-z,norelro,-z,lazy,-z,execstack",
                    "-Wl,-rpath,/tmp", source, "-o", program], check=True, capture_output=True)  # fmt: skip
    return program


def compiled_without(build, machine):
    """The sources of what is installed, with the flags that their objects show no trace of."""
    wanted = FLAGS + FLAGS_OF.get(machine, [])
    for entry in json.loads((build / "compile_commands.json").read_text()):
        name = Path(entry["file"])
        ours = name.is_relative_to(ROOT) and name.relative_to(ROOT).parts[0] in {"lib", "server", "agent", "cli", "plugins"}
        flags = entry["command"].split()
        yield from (f"{name.relative_to(ROOT)}: compiled without {flag}" for flag in wanted if ours and flag not in flags)


def main():
    build, compiler = Path(sys.argv[1]), sys.argv[2]
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    said = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = unprotected(folder, compiler)
        unseen = CHECKS.keys() - set(missing(bare)) - {"no relocations in its code", "no segment that can be written and executed"}
        said += [f"a program without it passes for one with {check}" for check in sorted(unseen)]
        subprocess.run(["cmake", "--install", build], check=True, capture_output=True, env={**os.environ, "DESTDIR": name})
        bare.unlink()
        elves = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.read_bytes()[:4] == b"\x7fELF"]
        if len(elves) < 9:
            said.append(f"of three programs, tunnel-pass-fd, four plugins and tunnel-plugin-check only these were installed: {[p.name for p in elves]}")
        for path in elves:
            said += [f"{path.name}: missing: {check}" for check in missing(path)]
    said += compiled_without(build, machine)
    print("\n".join(said) or f"{len(elves)} files have all of it: {', '.join(p.name for p in elves)}")
    return bool(said)


if __name__ == "__main__":
    sys.exit(main())
