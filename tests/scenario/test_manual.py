"""What the manual shows, as it stands there but for names and places, at a home where nothing was before."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import CLI, LIMIT, USER

PAGE = Path(__file__).resolve().parents[2] / "docs" / "man" / "tunnel-cli.1"


def example(program):
    """The one command of the examples that begins with it, and the lines in which it goes on."""
    text = PAGE.read_text().split(".Sh EXAMPLES")[1].split(".Ed")[0].replace("\\e\n", "\\\n")
    (command,) = re.findall(rf"(?m)^{program} (?:.*\\\n)*.*$", text)
    return command


@pytest.mark.parametrize("program", ["scp", "rsync"])
def test_a_copy(stack, program):
    home, there = stack.folder / "home", stack.folder / "there"
    (home / ".config" / "tunnel").mkdir(parents=True)
    (stack.folder / "cli.conf").rename(home / ".config" / "tunnel" / "config")
    (home / "site").mkdir()
    for file in (home / "file", home / "site" / "file"):
        file.write_text("what is copied")
    names = {"/srv/site/": f"{there}/", "@web-1:": f"@web-1:{there}/", "~/.ssh/web-1/": f"{stack.folder}/t/", "~/.ssh/web-1 ": f"{stack.folder}/t "}
    names |= {"--login root": f"--login {USER}", "root@": f"{USER}@"}
    there.mkdir()
    command = example(program)
    for name, ours in names.items():
        command = command.replace(name, ours)
    env = stack.env(HOME=str(home), XDG_CONFIG_HOME=None, TUNNEL_CONFIG=None, PATH=f"{CLI.parent}:{os.environ['PATH']}")
    r = subprocess.run(["bash", "-c", command], cwd=home, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    assert r.returncode == 0, command + r.stderr + stack.tails()
    assert (there / "file").read_text() == "what is copied"
    assert "~/.ssh" not in command and "/srv" not in command
