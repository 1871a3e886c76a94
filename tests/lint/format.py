#!/usr/bin/python3
"""format.py CLANG_FORMAT: every source looks as .clang-format says."""

import subprocess
import sys

from lint import ROOT, files


def main():
    r = subprocess.run([sys.argv[1], "--dry-run", "-Werror", *files()], cwd=ROOT, capture_output=True, text=True)
    said = [line for line in r.stderr.splitlines() if " error: " in line]
    print("\n".join(said + [f"mend it with: {sys.argv[1]} -i FILE"]) if r.returncode else "every source looks as it should")
    return 1 if r.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
