"""The TCP sockets of a process: which there are, and cutting one from outside, as a network or a middle box would."""

import ctypes
import os
import socket

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_PIDFD_GETFD = 438  # the same on every architecture
ESTABLISHED = "01"


def inodes_of(pid):
    """Socket inode -> file descriptor."""
    found = {}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if link.startswith("socket:["):
                found[link[8:-1]] = int(fd)
    except OSError:
        pass
    return found


def established(pid):
    """(local port, remote port, inode) of the IPv4 connections in the network namespace of a process."""
    try:
        with open(f"/proc/{pid}/net/tcp") as f:
            rows = [line.split() for line in f.readlines()[1:]]
    except OSError:
        return []
    return [(int(r[1][9:], 16), int(r[2][9:], 16), r[9]) for r in rows if r[3] == ESTABLISHED]


def connections(pid, to_ports):
    """(local port, file descriptor) of a process's connections to these ports."""
    mine = inodes_of(pid)
    return [(local, mine[inode]) for local, remote, inode in established(pid) if remote in to_ports and inode in mine]


def reset(fd):
    """A connected TCP socket that is disconnected sends RST; whoever holds it reads ECONNRESET."""
    return LIBC.connect(fd, bytes(16), 16) == 0


def finish(fd):
    s = socket.socket(fileno=os.dup(fd))
    try:
        s.shutdown(socket.SHUT_RDWR)
        return True
    except OSError:
        return False
    finally:
        s.close()


def cut(pid, to_ports, how):
    """Cuts every connection of a process to these ports, by "rst" or "fin"; returns how many."""
    n = 0
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        for _, theirs in connections(pid, to_ports):
            fd = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, theirs, 0)
            if fd >= 0:
                n += reset(fd) if how == "rst" else finish(fd)
                os.close(fd)
    finally:
        os.close(pidfd)
    return n
