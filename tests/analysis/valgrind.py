#!/usr/bin/python3
"""valgrind.py BUILD JOBS [AREA …]: the unit and conformance tests of the plugins, and unit tests of link, keys and policies, under
valgrind's memcheck.

Whole programs, not case by case: most of the time is that of valgrind's own start. Prints a line for each, what valgrind said
of those that failed, and exits with 1 when one did.
"""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD, JOBS, AREAS = Path(sys.argv[1]).resolve(), int(sys.argv[2]), sys.argv[3:]
# plugins.redis starts many servers and waits for them; what the plugin does with memory store_redis sees as well.
PLUGINS = r"plugins\.(jwt|hmac|sqlite)|(store_(sqlite|redis)|auth_(jwt|hmac))\."
# What parses what strangers say, or judges by it; its simulators and sweeps run under the sanitizers, and take too long here.
OTHERS = r"link\.(frame|peer|streams|live|slow|tls)\.|ident\.(key|proof|ssh|sshagent)\.|server\.policy\.(conditions|statements|mistakes|samples)\."
WANTED = re.compile(f"{PLUGINS}|{OTHERS}")
# A plugin is closed before valgrind tells of it, so it has to keep the names. What is still reachable at the end belongs to
# the libraries.
VALGRIND = ["valgrind", "--quiet", "--error-exitcode=99", "--keep-debuginfo=yes", "--fair-sched=yes", "--num-callers=30", "--leak-check=full",
            "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite", f"--suppressions={HERE / 'valgrind.suppressions'}"]  # fmt: skip
LIMIT = 1800


def commands():
    """Name -> (folder, command, environment) of all that the cases are parts of."""
    listing = subprocess.run(["ctest", "--test-dir", BUILD, "--show-only=json-v1"], capture_output=True, text=True, check=True).stdout
    found = {}
    for test in json.loads(listing)["tests"]:
        if not WANTED.match(test["name"]):
            continue
        words, area = list(test["command"]), test["name"].rpartition(".")[0]
        if "--case" in words:
            at = words.index("--case")
            del words[at : at + 2]
            at = next(i for i, word in enumerate(words) if word.endswith("/tunnel-plugin-check"))
        else:
            del words[1:]
            at = 0
        settings = {p["name"]: p["value"] for p in test["properties"]}
        found[area] = (settings["WORKING_DIRECTORY"], words[:at] + VALGRIND + words[at:])
    return found


def run(job):
    area, (folder, command) = job
    began = time.monotonic()
    environment = {**os.environ, "TZ": "UTC"}
    r = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
    said = r.stdout.decode(errors="replace")
    print(f"{area}: {'ok' if r.returncode == 0 else f'exit code {r.returncode}'}, {time.monotonic() - began:.0f} s", flush=True)
    if r.returncode:
        print(said[-20000:], flush=True)
    return r.returncode


def main():
    jobs = commands()
    if len(jobs) < 8:
        sys.exit(f"only these were found: {sorted(jobs)}")
    with ThreadPoolExecutor(JOBS) as pool:
        return any(list(pool.map(run, [job for job in jobs.items() if not AREAS or job[0] in AREAS])))


if __name__ == "__main__":
    sys.exit(main())
