import ctypes
import faulthandler
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import harness  # noqa: E402

# What a shell starts in the background, or nohup, ignores some signals, and so would all that is started here.
for _signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, signal.SIG_DFL)


PR_SET_CHILD_SUBREAPER = 36


def pytest_configure(config):
    """What a test starts and nobody waits for becomes a child of this process, so it can be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def new_children(before):
    """The processes that came since, without those that are over."""
    found = set(harness.children(os.getpid())) - before
    for pid in [pid for pid in found if not harness.command_line(pid)]:
        try:
            over, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            over = pid
        found -= {over}
    return found


@pytest.fixture(autouse=True)
def nothing_is_left():
    """A test leaves no process behind."""
    before = set(harness.children(os.getpid()))
    yield
    try:
        harness.wait_for(lambda: not new_children(before), "all that the test started to end", 20)
    except AssertionError:
        left = {pid: harness.command_line(pid) for pid in harness.family(new_children(before))}
        harness.send(signal.SIGKILL, left)
        raise AssertionError(f"the test left these behind: {left}") from None


@pytest.fixture
def fake_clock():
    """fake_clock("+10m"): the environment of a program whose wall clock is so far off."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if not library:
        pytest.skip("faketime is not installed")
    return lambda off: {"LD_PRELOAD": str(library), "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture
def folder(request):
    """A temp folder with a short name: sockets have to fit in it."""
    path = request.node.folder = Path(tempfile.mkdtemp(prefix="tt-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def stack(folder):
    """A server with an agent "web-1" that allows SSH and any port of its loopback."""
    s = harness.Stack(folder)
    try:
        s.start_server()
        s.start_agent()
        yield s
    finally:
        s.close()


@pytest.fixture
def bare(folder):
    """A stack that the test starts itself."""
    s = harness.Stack(folder)
    try:
        yield s
    finally:
        s.close()


@pytest.fixture
def proxied(folder):
    """The legs go through a proxy that can cut them."""
    s = harness.Stack(folder)
    proxy = harness.CutProxy(s.port)
    s.relay_url = f"https://localhost:{proxy.port}"
    s.proxy = proxy
    try:
        s.start_server()
        s.start_agent()
        yield s
    finally:
        s.close()
        proxy.close()


CASE_LIMIT = int(os.environ.get("TUNNEL_CASE_LIMIT", "400"))


def on_case_limit(signum, frame):
    with tempfile.TemporaryFile("w+") as f:
        faulthandler.dump_traceback(f, all_threads=True)
        f.seek(0)
        raise AssertionError(f"not done after {CASE_LIMIT} s; this stood where it stands below, the threads here:\n{f.read()}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A case that hangs fails, and tells where."""
    signal.signal(signal.SIGALRM, on_case_limit)
    signal.alarm(CASE_LIMIT)
    yield
    signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Our programs hide themselves from all but root: what looks into one is for root."""
    outcome = yield
    e = outcome.excinfo and outcome.excinfo[1]
    if isinstance(e, PermissionError) and str(e.filename).startswith("/proc/") and os.geteuid() != 0:
        outcome.force_exception(pytest.skip.Exception(f"needs root, to look into a process: {e}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The logs of server and agents stand in the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    folder = getattr(item, "folder", None)
    if report.failed and folder is not None:
        report.sections.append(("logs", harness.tails(folder)))
