"""security.py SECURITY_MD TESTS CTEST BUILD: each claim of the threat model names tests, and each of them exists."""

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT, TESTS, CTEST, BUILD = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5]
REFERENCE = re.compile(r"`((?:[a-z0-9_]+\.)+[a-z0-9_]+|[a-z0-9_]+\.py::\w+)`")


def cases_of_ctest():
    listing = subprocess.run([CTEST, "--test-dir", BUILD, "-N"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"Test\s+#\d+: (\S+)", listing))


def cases_of_python():
    return {
        f"{path.name}::{name}"
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"(?m)^(?:async )?def (test_\w+)\(", path.read_text())
    }


def claims(text):
    """[(line, text)]: each item of a list, with the lines that go on with it."""
    items = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("- "):
            items.append([number, line])
        elif items and line.startswith("  "):
            items[-1][1] += line
    return items


def mistakes(text, known):
    items = claims(text)
    if not items:
        yield "no claim is made"
    for number, item in items:
        if not REFERENCE.search(item):
            yield f"line {number}: a claim without a test: {item[:60]}"
    for name in sorted(set(REFERENCE.findall(text)) - known - {"audit.file", "audit.syslog", "docs.security"}):
        yield f"there is no test {name}"


known = cases_of_ctest() | cases_of_python()
# What finds mistakes is shown some.
sample = "- a claim\n- another: `server.none.such`\n- a third: `test_none.py::test_such`\n"
expected = ["line 1: a claim without a test: - a claim", "there is no test server.none.such", "there is no test test_none.py::test_such"]
wrong = list(mistakes(DOCUMENT.read_text(), known))
if list(mistakes(sample, known)) != expected:
    wrong.append(f"of the sample it says {list(mistakes(sample, known))}")
print("\n".join(wrong) or "each claim has its tests")
sys.exit(bool(wrong))
