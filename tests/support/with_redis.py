#!/usr/bin/python3
"""with_redis.py COMMAND [ARGUMENT …]: runs a command beside a redis-server of its own, which keeps every answered write (append-only file,
fsync for each). In an argument {redis} stands for the server's socket. Exits with the command's status, with 77 without redis-server."""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def answers(path):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path))
            s.sendall(b"PING\r\n")
            return s.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def main():
    if not shutil.which("redis-server"):
        print("no redis-server")
        return 77
    with tempfile.TemporaryDirectory(prefix="with-redis-") as folder:
        path = Path(folder) / "redis.sock"
        with open(f"{folder}/log", "w") as log:
            redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "yes",
                                      "--appendfsync", "always"], stdout=log, stderr=log)
        child = None
        # When this is ended from outside (a time limit), so are the two.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        try:
            while not answers(path):
                if redis.poll() is not None:
                    print(Path(f"{folder}/log").read_text())
                    return 1
                time.sleep(0.02)
            child = subprocess.Popen([a.replace("{redis}", str(path)) for a in sys.argv[1:]])
            return child.wait()
        finally:
            for process in (child, redis):
                if process and process.poll() is None:
                    process.kill()
                    process.wait()


if __name__ == "__main__":
    sys.exit(main())
