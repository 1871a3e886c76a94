"""pages.py DOCS SERVER CLI: what docs/users.md and docs/migrating.md tell people to type and to set exists, and each exit code of
tunnel-cli up to those of single commands is explained."""

import re
import subprocess
import sys
from pathlib import Path

DOCS, SERVER, CLI = Path(sys.argv[1]), *sys.argv[2:4]
USERS, MIGRATING = (DOCS / "users.md").read_text(), (DOCS / "migrating.md").read_text()
ONE_COMMANDS = {"0", "1", "244", "245"}
wrong = []


def said(*args):
    return subprocess.run(args, capture_output=True, text=True, check=True, timeout=120).stdout


def lines_to_type(text):
    """What stands in code, behind each tunnel-cli in it."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", text)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    return [part for code in (*"\n".join(blocks).splitlines(), *spans) for part in code.split("#")[0].split("tunnel-cli ")[1:]]


def check_commands(name, text):
    commands = set(re.findall(r"(?m)^  ([a-z][a-z-]+)  +\S", said(CLI, "--help"))) | {"COMMAND"}
    found = 0
    for line in lines_to_type(text):
        command, *rest = line.split(" -- ")[0].split()
        options = {w.partition("=")[0] for w in rest if w.startswith("--")}
        if command.startswith("--"):
            continue
        found += 1
        if command not in commands:
            wrong.append(f"{name}: tunnel-cli {command} does not exist")
        elif command != "COMMAND":
            known = set(re.findall(r"--[a-z-]+", said(CLI, command, "--help")))
            wrong.extend(f"{name}: tunnel-cli {command} has no {o}" for o in sorted(options - known))
    if found < 10:
        wrong.append(f"{name}: only {found} commands were found to check")


def check_exit_codes():
    told = set(re.findall(r"\b(\d+) ", said(CLI, "--help").partition("Exit codes:")[2]))
    written = set(re.findall(r"(?m)^\| (\d+) \|", USERS))
    if told - ONE_COMMANDS != written:
        wrong.append(f"users.md: exit codes {sorted(told - ONE_COMMANDS ^ written)}")


def check_settings():
    """Of a profile, in users.md's tables and samples; of the server, in migrating.md."""
    profile = set(re.findall(r"(?m)^(\S+) \(", said(CLI, "--describe-config")))
    server = set(re.findall(r"(?m)^(\S+) \(", said(SERVER, "--describe-config")))
    used = set(re.findall(r"(?m)^  (\w+) = ", USERS)) | set(re.findall(r"`(\w+) = ", USERS))
    wrong.extend(f"users.md: a profile has no {s}" for s in sorted(used - profile - {"key_id", "secret"}))
    dotted = set(re.findall(r"`(session\.\w+)`", USERS + MIGRATING))
    wrong.extend(f"the server has no setting {s}" for s in sorted(dotted - server))
    if not used or not dotted:
        wrong.append("no setting was found to check")


def check_links():
    for name, text in (("users.md", USERS), ("migrating.md", MIGRATING)):
        for path in re.findall(r"\]\(([^)#]+)\)", text):
            if not (DOCS / path).exists():
                wrong.append(f"{name}: {path} does not exist")


check_commands("users.md", USERS)
check_commands("migrating.md", MIGRATING)
check_exit_codes()
check_settings()
check_links()
if wrong:
    sys.exit("\n".join(wrong))
print("what the pages tell people to type exists")
