"""What a person can ask of a running session: lines on the terminal of a forward, signals everywhere."""

import os
import signal
import subprocess
import termios

import pytest
from harness import CLI, LIMIT, LineReader, TcpServer, echo_until_eof, wait_for
from terminal import Terminal
from test_cli_resume import resume, session_of, state_files
from test_forward import talk


@pytest.fixture
def forward(stack):
    """A forward on a terminal, with t.port and t.session."""
    t = Terminal(stack, "start-session", "--target", "web-1", "-L", f"0:127.0.0.1:{TcpServer(echo_until_eof).port}")
    t.port = int(t.until(rb"listening on 127.0.0.1:(\d+) for").group(1))
    t.until(rb"~\? and Enter for help")
    assert talk(t.port, b"hello") == b"hello"
    t.session = session_of(stack)
    yield t
    t.close()


def test_help_status_and_what_means_nothing(forward):
    forward.type("~?\n")
    forward.until(rb"~\. ends the session, ~d leaves it")
    forward.type("~~\nhello ~s\n ~.\n~..\n\n~s\n")
    forward.until(rb"session s-\S+ to web-1: up for \d+ s, 0 streams, 5 B in, 5 B out(, RTT \d+ ms)?, 0 resumes")
    assert forward.seen.count(b" to web-1: up for") == 1, "one of these lines was an escape"
    assert talk(forward.port, b"still here") == b"still here"


def test_an_escape_ends_it(stack, forward):
    forward.type("~.\n")
    assert forward.exit_code() == 0
    assert termios.tcgetattr(forward.fd) == forward.modes
    wait_for(lambda: stack.json("list-sessions") == [], "the session to end", every=0.2)
    assert state_files(stack) == []


def test_an_escape_leaves_it_for_another_client(stack, forward):
    forward.type("~d\n")
    forward.until(rb"come back with: tunnel-cli resume-session " + forward.session.encode())
    assert forward.exit_code() == 0
    gone = wait_for(lambda: not (s := stack.json("describe-session", forward.session))["attached"]["client"] and s, "the client to be gone")
    assert gone["state"] == "active" and len(state_files(stack)) == 1
    p = resume(stack, forward.session)
    assert p.ports == [forward.port] and talk(forward.port, b"back") == b"back"
    p.send_signal(signal.SIGINT)
    assert p.wait(LIMIT) == 0



def test_an_escape_reconnects(proxied):
    t = Terminal(proxied, "start-session", "--target", "web-1", "-L", f"0:127.0.0.1:{TcpServer(echo_until_eof).port}")
    try:
        port = int(t.until(rb"listening on 127.0.0.1:(\d+) for").group(1))
        assert talk(port, b"hello") == b"hello"
        before = proxied.proxy.count
        t.type("~r\n")
        wait_for(lambda: proxied.proxy.count > before, "a new leg")
        assert talk(port, b"again") == b"again"
        assert b"connection lost" not in t.seen
        t.type("~.\n")
        assert t.exit_code() == 0
    finally:
        t.close()


def test_interrupt_and_end_of_input_on_the_terminal(stack, forward):
    forward.type("\x04")  # means nothing
    forward.type("~s\n")
    forward.until(rb"up for")
    forward.type("\x03")
    assert forward.exit_code() == 0
    wait_for(lambda: stack.json("list-sessions") == [], "the session to end", every=0.2)


def test_a_closed_terminal_ends_it(stack, forward):
    os.close(forward.fd)
    forward.fd = os.open("/dev/null", os.O_RDONLY)
    assert forward.exit_code() == 0
    wait_for(lambda: stack.json("list-sessions") == [], "the session to end", every=0.2)


def test_a_forward_in_the_background_leaves_the_terminal_alone(stack):
    """Started with & by a shell: a line for the shell is the shell's, and the forward is not stopped by it."""
    t = Terminal(stack, "--norc", "--noprofile", "-i", program="/bin/bash")
    try:
        port = TcpServer(echo_until_eof).port
        t.type(f"{CLI} start-session --target web-1 -L 0:127.0.0.1:{port} &\n")
        local = int(t.until(rb"listening on 127.0.0.1:(\d+) for").group(1))
        t.type("echo mark-$((40+2))\n")
        t.until(rb"mark-42")
        t.type("jobs\n")
        t.until(rb"\[1\]\+ +Running")
        assert talk(local, b"x") == b"x"
        t.type("fg\n")
        wait_for(lambda: not t.in_front(), "the forward to have the terminal")
        t.type("~s\n")
        t.until(rb"up for")
        t.type("~.\n")
        wait_for(t.in_front, "the shell to have the terminal back")
        wait_for(lambda: stack.json("list-sessions") == [], "the session to end", every=0.2)
        t.type("exit\n")
        t.exit_code()
    finally:
        t.close()


def test_signals_of_a_stream_on_standard_input_and_output(proxied):
    """The state goes to stderr, and not one byte of it into the data."""
    port = TcpServer(echo_until_eof).port
    p = proxied.cli_popen("start-session", "--quiet", "--target", "web-1", "--to", f"127.0.0.1:{port}", stdin=subprocess.PIPE)
    out, err = LineReader(p.stdout), LineReader(p.stderr)

    def say(word):
        p.stdin.write(word + b"\n")
        p.stdin.flush()
        out.wait(word.decode())

    say(b"one")
    p.send_signal(signal.SIGUSR1)
    err.wait("up for")
    before = proxied.proxy.count
    p.send_signal(signal.SIGUSR2)
    wait_for(lambda: proxied.proxy.count > before, "a new leg")
    say(b"two")
    p.stdin.close()
    assert p.wait(LIMIT) == 0
    wait_for(lambda: out.eof and err.eof, "the ends of the output")
    assert out.lines == ["one", "two"]
    assert len(err.lines) == 1, "--quiet: nothing but what was asked for"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_stream_on_standard_input_and_output(stack, signum):
    port = TcpServer(echo_until_eof).port
    p = stack.cli_popen("start-session", "--target", "web-1", "--to", f"127.0.0.1:{port}", stdin=subprocess.PIPE)
    p.stdin.write(b"up\n")
    p.stdin.flush()
    LineReader(p.stdout).wait("up")
    p.send_signal(signum)
    assert p.wait(LIMIT) == 128 + signum
    wait_for(lambda: stack.json("list-sessions") == [], "the session to end", every=0.2)
