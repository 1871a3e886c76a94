"""man_pages.py FOLDER SERVER AGENT CLI PLUGIN-CHECK: the manual pages against what the programs say of themselves."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER, SERVER, AGENT, CLI, PLUGIN_CHECK = Path(sys.argv[1]), *sys.argv[2:6]
wrong = []


def said(*args, code=0):
    r = subprocess.run(args, capture_output=True, text=True, timeout=120)
    if r.returncode != code:
        wrong.append(f"{' '.join(args)} exits with {r.returncode}: {r.stderr}")
    return r.stdout + r.stderr


def compare(page, what, told, written):
    for word in sorted(told - written):
        wrong.append(f"{page}: {what} {word} is missing")
    for word in sorted(written - told):
        wrong.append(f"{page}: {what} {word} does not exist")


def options_of_page(text):
    macros = "\n".join(line for line in text.splitlines() if line.startswith("."))
    return set(re.findall(r"Fl -([a-z][a-z-]+)", macros))


def settings_of_page(text):
    return {k for line in re.findall(r"(?m)^\.It (Ic .*)$", text) for k in re.findall(r"Ic (\S+)", line)}


def settings_of(program):
    return set(re.findall(r"(?m)^(\S+) \(", said(program, "--describe-config")))


def told_of_values(program):
    """Setting -> what must be, may be, or is if nothing is said, as the program tells it."""
    told = {}
    for name, kind, default, help in re.findall(r"(?m)^(\S+) \((.*)\)(?:, default (.*?))?(?:, reloaded on SIGHUP)?\n    (.*)$",
                                                said(program, "--describe-config")):
        words = re.search(r"\bdefault: ([^;]*)", help)
        told[name] = ("required" if kind.endswith(", required") else "default " + words[1] if words
                      else f"default {default}" if default not in ("", '""') else "no default")
        if kind.startswith("one of "):
            told[name] += " of " + kind.removeprefix("one of ").replace("|", ", ")
    return told


def written_of_values(text):
    written = {}
    settings = re.split(r"(?m)^\.S[hs] ", text.partition(".Sh SETTINGS")[2])[0]
    for heads, words in re.findall(r"(?ms)^\.It (Ic [^\n]*)\n(.*?)(?=^\.It |^\.El)", settings):
        words = words.replace("\n", " ").strip()
        default, choices = re.search(r"Default: (.*?)\.(?= [A-Z]|$)", words), re.match(r"One of ([a-z, ]*);", words)
        value = "required" if words.endswith("Required.") else f"default {default[1]}" if default else "no default"
        for name in re.findall(r"Ic (\S+)", heads):
            written[name] = value + (f" of {choices[1]}" if choices else "")
    return written


def compare_values(page, program, text):
    told, written = told_of_values(program), written_of_values(text)
    told.pop("plugin_dir", None)  # differs from one build to the next
    if not told:
        wrong.append(f"{page}: no setting is told")
    for name, value in told.items():
        if written.get(name, "") != value:
            wrong.append(f"{page}: setting {name}: {written.get(name, 'nothing')}; the program says: {value}")


def server():
    page = (FOLDER / "tunnel-server.8").read_text()
    compare("tunnel-server.8", "option --", set(re.findall(r"(?m)^  --([a-z-]+)", said(SERVER, "--help"))), options_of_page(page))
    compare("tunnel-server.8", "setting", settings_of(SERVER), settings_of_page(page))
    compare_values("tunnel-server.8", SERVER, page)


def agent():
    page = (FOLDER / "tunnel-agent.8").read_text()
    rows = re.findall(r"(?m)^  (--.*)$", said(AGENT, "--help"))
    told = {o for row in rows for o in re.findall(r"--([a-z-]+)", row.split("   ")[0])}
    compare("tunnel-agent.8", "option --", told, options_of_page(page))
    compare("tunnel-agent.8", "setting", settings_of(AGENT), settings_of_page(page))
    compare_values("tunnel-agent.8", AGENT, page)


def cli():
    page = (FOLDER / "tunnel-cli.1").read_text()
    text = said(CLI, "--help")
    commands = set(re.findall(r"(?m)^  ([a-z][a-z-]+)  +\S", text))
    compare("tunnel-cli.1", "command", commands, set(re.findall(r"(?m)^\.It Cm ([a-z]+(?:-[a-z]+)?)", page)))
    told = {"version", "describe-config"}
    for command in sorted(commands):
        help_text = said(CLI, command, "--help")
        told |= set(re.findall(r"(?m)^  (?:-\w, )?--([a-z-]+)", help_text))
        if not re.search(r"(?m)^Examples?:\n  .*tunnel-cli", help_text):
            wrong.append(f"tunnel-cli {command} --help has no example")
    compare("tunnel-cli.1", "option --", told, options_of_page(page))
    source = "".join(path.read_text() for path in sorted((FOLDER / "../../server").glob("*.c")))
    events = set(re.findall(r'\b(?:audit[a-z_]*|begin|gather)\([^;"]*"((?:[a-z]+\.[a-z_]+)|denied)"', source))
    listed = re.search(r"(?ms)^The events are$(.*?)^\.It", page)[1]
    compare("tunnel-cli.1", "audit event", events, {w for line in re.findall(r"(?m)^\.Li (.*)$", listed) for w in line.split() if w not in ",.;"})
    compare("tunnel-cli.1", "exit code", set(re.findall(r"\b(\d+) ", text.partition("Exit codes:")[2])), set(re.findall(r"(?m)^\.It (\d+)$", page)))
    compare("tunnel-cli.1", "setting", settings_of(CLI), settings_of_page(page))


def plugin_check():
    page = (FOLDER / "tunnel-plugin-check.1").read_text()
    compare("tunnel-plugin-check.1", "option --", set(re.findall(r"--([a-z]+)", said(PLUGIN_CHECK, "--help"))) | {"help"}, options_of_page(page))


def layout():
    groff = shutil.which("groff")
    for page in sorted(FOLDER.glob("*.[18]")) if groff else []:
        r = subprocess.run([groff, "-mdoc", "-ww", "-z", "-Tascii", str(page)], capture_output=True, text=True)
        # groff-base alone, as Debian installs it with man-db, has no mdoc below some versions: then it says nothing of use.
        if "mdoc" not in r.stderr.partition("\n")[0] and r.stderr:
            wrong.append(r.stderr)


for check in (server, agent, cli, plugin_check, layout):
    check()
print("\n".join(wrong) or "the manual pages say what the programs do")
sys.exit(bool(wrong))
