"""The machine that a test gets."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from installed import NAMES, RELEASES, WORK  # noqa: E402
from machine import Machine, chroot, copy, run  # noqa: E402

EXTRA = {"sqlite3", "redis-server"}  # for the guide's backup; for the other store


def deb_field(root, name, field):
    (deb,) = (root / "debs/1").glob(f"{name}_*.deb")
    return filter(None, run("dpkg-deb", "-f", deb, field).strip().split(", "))


@pytest.fixture(params=RELEASES)
def machine(request):
    """Fresh, booted, with what our packages depend on and none of them; the packages of two versions lie in /debs/1 and /debs/2."""
    release = request.param
    root = copy(WORK / release / "root", WORK / f"test-{release}")
    copy(WORK / release / "debs", root / "debs")
    needs = EXTRA | {dep for name in NAMES for field in ("Depends", "Recommends") for dep in deb_field(root, name, field) if "c-compiler" not in dep}
    chroot(root, "apt-get update -qq && apt-get satisfy -y -qq --no-install-recommends " + f"'{', '.join(sorted(needs))}'")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    m = Machine(root)
    m.sh("systemctl disable --now ssh.service ssh.socket redis-server.service", check=False)  # neither needs to listen
    try:
        yield m
    finally:
        m.off()
