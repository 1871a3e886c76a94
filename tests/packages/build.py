"""build.py SOURCE WORK RELEASE…: for each release a fresh system in WORK/RELEASE/root and the packages of two revisions in
WORK/RELEASE/debs/1 and 2, built on a machine of that release."""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import base, chroot, copy, run  # noqa: E402

SOURCE, WORK = Path(sys.argv[1]), Path(sys.argv[2])


def build(release):
    """In a copy that keeps its compiler and its build folder; the files are those of the tree as it is."""
    builder, debs = WORK / f"build-{release}", WORK / release / "debs"
    fresh = base(WORK, release)
    if not builder.exists():
        copy(fresh, builder)
        chroot(builder, "apt-get update -qq")
    (builder / "src").mkdir(exist_ok=True)
    files = run("git", "-C", SOURCE, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, files):
        target = builder / "src" / name
        if not target.exists() or target.read_bytes() != (SOURCE / name).read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, target)
    shutil.rmtree(debs, ignore_errors=True)
    for revision in ("1", "2"):
        print(f"{release}: packages of revision {revision}", flush=True)
        chroot(builder, f"cd /src && JOBS=2 scripts/package --revision {revision}")
        shutil.copytree(builder / "src/build/packages", debs / revision)


for release in sys.argv[3:]:
    build(release)
