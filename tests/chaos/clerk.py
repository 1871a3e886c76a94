"""Asks for small changes all the time and keeps those that were answered: each of them must be in the audit log at the end."""

import threading

PAUSE = 0.3  # seconds between two changes: enough to have one under way when something dies
LATER = 235  # tunnel-cli's exit code: nobody can answer now


class Clerk(threading.Thread):
    def __init__(self, ask):
        """ask: runs tunnel-cli with these arguments once; a subprocess.CompletedProcess."""
        super().__init__(daemon=True)
        self.ask, self.over = ask, threading.Event()
        self.answered, self.refused, self.error = [], 0, None

    def run(self):
        number = 0
        while not self.over.wait(PAUSE):
            number += 1
            target = f"clerk-{number}"
            r = self.ask("create-enrollment", target)
            if r.returncode == 0:
                self.answered.append(target)
            elif r.returncode == LATER:
                self.refused += 1
            elif not self.over.is_set():
                self.error = f"create-enrollment {target} exited with {r.returncode}: {r.stderr.strip()}"
                return

    def stop(self):
        self.over.set()
        self.join()

    def missing(self, records):
        """The answered changes that the log does not have."""
        had = {r.get("target") for r in records if r.get("event") == "target.enrollment"}
        return [t for t in self.answered if t not in had]
