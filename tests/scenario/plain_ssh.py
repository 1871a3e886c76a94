"""Somebody who uses plain ssh, and what runs it, through the configuration that tunnel-cli ssh-config writes."""

import subprocess

from harness import USER

HOST = f"{USER}@web-1.tunnel"


class Ssh:
    """A user with a configuration of ssh's own, in the test's folder."""

    def __init__(self, stack, *args, more="", **env):
        self.stack, self.dir, self.config = stack, stack.folder / "s", stack.folder / "ssh_config"
        stack.cli("ssh-config", "--install", "--dir", self.dir, *args, **env)
        self.config.write_text("".join(f'Include "{path}"\n' for path in sorted(self.dir.glob("*.conf"))) + more)
        self.command = f"ssh -F {self.config} -o BatchMode=yes"

    def __call__(self, *args, **kw):
        return self.run("ssh", "-o", "BatchMode=yes", *args, **kw)

    def run(self, program, *args, check=True, env=(), **kw):
        kw = {"text": True, "stdin": subprocess.DEVNULL, **kw}
        if "input" in kw:
            kw.pop("stdin")
        first = [program] if program in ("git", "rsync") else [program, "-F", str(self.config)]
        r = subprocess.run([*first, *map(str, args)], capture_output=True, timeout=120, env=self.stack.env(**dict(env)), **kw)
        assert not check or r.returncode == 0, f"{program} {args}: {r.returncode}\n{r.stderr}\n{self.stack.tails()}"
        return r

    def popen(self, *args, **kw):
        kw = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kw}
        p = subprocess.Popen(["ssh", "-F", str(self.config), "-o", "BatchMode=yes", *map(str, args)], env=self.stack.env(), **kw)
        self.stack.procs.append(p)
        return p
