#!/usr/bin/python3
"""The rules of the tree that a compiler does not check: who may include whom, how long a file may be, what no text may say,
and names that Python would take without a word for the later of two things.

Prints one line a breach; exit code 1 when there is one.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)

# Folder -> project folders it may include from ("base/x.h" is lib/base, <tunnel/x.h> is include/tunnel).
LIB = {"base", "link", "net", "ident", "endpoint"}
MAY = {
    "include": {"tunnel"},
    "lib/base": {"base"},
    "lib/link": {"base", "link"},
    "lib/net": {"base", "net"},
    "lib/ident": {"base", "ident"},
    "lib/endpoint": LIB,
    "server": LIB | {"tunnel", "server"},
    "agent": LIB | {"agent"},
    "cli": LIB | {"cli"},
    "plugins": {"tunnel"},
    "examples": {"tunnel"},
    "tests/swarm": LIB,
}
OURS = LIB | {"tunnel", "server", "agent", "cli", "plugins"}

# Library header -> where it may be used.
ONLY = {
    "libwebsockets.h": r"server/conn_(lws|head)\.c",
    "dlfcn.h": r"server/plugin_[a-z]+\.c|lib/net/curl\.c",
    "sqlite3.h": r"plugins/store-sqlite/.*",
    "hiredis/": r"plugins/store-redis/.*",
    "jwt.h": r"plugins/auth-jwt/.*",
    "curl/": r"lib/net/curl\.h|plugins/auth-jwt/(fetch|follow)\.c",
    "libconfig.h": r"(lib/base/conf\.c|plugins/auth-hmac/.*)",
}
MAX_LINES = 800
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def files(*kinds):
    """What git would take of these kinds, C alone if none is named; without git, or without a repository, every file."""
    try:
        out = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
        names = out.stdout.split("\n") if out.returncode == 0 else None
    except FileNotFoundError:
        names = None
    if names is None:
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.*")]
    return sorted(n for n in names if n.endswith(kinds or (".c", ".h")) and (ROOT / n).exists() and not n.startswith("build/"))


def area(name):
    for a in sorted(MAY, key=len, reverse=True):
        if name.startswith(a + "/"):
            return a
    return None


def is_half(node):
    """Of a property, whose other half has its name."""
    return any(isinstance(d, ast.Attribute) and d.attr in ("setter", "deleter") for d in node.decorator_list)


def twice(name, text):
    """Functions and classes that another of their name takes the place of: of two tests, pytest runs but the last."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for scope in ast.walk(ast.parse(text, name)):
        lines = {}
        for node in scope.body if isinstance(scope, (ast.Module, *kinds)) else ():
            if not isinstance(node, kinds) or is_half(node):
                continue
            if node.name in lines:
                yield f"{name}:{node.lineno}: {node.name} is in line {lines[node.name]} already, which nothing would reach"
            lines[node.name] = node.lineno


def breaches(name, text):
    if name.endswith(".py"):
        yield from twice(name, text)
        return
    where = area(name)
    for m in INCLUDE.finditer(text):
        header = m.group(2)
        line = text.count("\n", 0, m.start()) + 1
        folder = header.split("/")[0] if "/" in header else None
        if where and folder in OURS and folder not in MAY[where]:
            yield f"{name}:{line}: {where} must not include {header}"
        for lib, allowed in ONLY.items():
            used = header.startswith(lib) if lib.endswith("/") else header == lib
            if used and where and not re.fullmatch(allowed, name):
                yield f"{name}:{line}: <{header}> belongs in {allowed}"
    lines = text.count("\n")
    if lines > MAX_LINES:
        yield f"{name}: {lines} lines; at most {MAX_LINES}"
    for m in UNFINISHED.finditer(text):
        yield f"{name}:{text.count(chr(10), 0, m.start()) + 1}: unfinished work ({m.group(1)})"


def main():
    found = [b for n in files(".c", ".h", ".py") for b in breaches(n, (ROOT / n).read_text(errors="replace"))]
    print("\n".join(found) if found else "no breach")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
