"""What the server exports of its audit log: nothing missing and nothing twice, through kills, rotation and a syslog that is away."""

import json
import os
import shutil
import socket
import threading

import pytest
from cluster import Redis
from harness import LIMIT, wait_for
from rawclient import call
from test_store_redis import OnRedis

POLICY = {"Version": "2026-01-01", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": ["tunnel:ListTargets"], "Resource": ["*"]}]}


def rows(*paths):
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]


def log_of(stack):
    return [json.loads(line) for line in stack.cli("audit", "--from", 1, "--output", "json").stdout.splitlines()]


def make_records(stack, n, name="p"):
    for _ in range(n):
        call(stack, "PUT", f"/v1/policies/{name}", POLICY)


def test_a_file_has_each_record_once_through_kills_and_rotation(bare):
    export, rotated = bare.folder / "audit.jsonl", bare.folder / "audit.jsonl.1"
    bare.conf = f'audit: {{ file = "{export}"; }};'
    bare.start_server()
    for life in range(3):
        stop = threading.Event()

        def work():
            while not stop.is_set():
                make_records(bare, 1)

        workers = [threading.Thread(target=work, daemon=True) for _ in range(2)]
        for w in workers:
            w.start()
        try:
            seen = len(rows(export, rotated))
            wait_for(lambda: export.exists() and len(rows(export, rotated)) > seen + 5, "records in the export")
            if life == 1:
                os.rename(export, rotated)
                wait_for(lambda: len(rows(export)) > 5, "a new file after the rotation")
            bare.server.kill()
            bare.server.p.wait()
        finally:
            stop.set()
            for w in workers:
                w.join()
        if life == 0:  # a line that was cut; after a power cut a file may end in zeros
            with export.open("a") as f:
                f.write('{"seq": 1000000, "ev')
        else:
            with export.open("ab") as f:
                f.write(bytes(4000))
        bare.start_server()
    expected = log_of(bare)
    wait_for(lambda: rows(rotated, export)[-1]["seq"] >= expected[-1]["seq"], "the end of the log in the export")
    assert rows(rotated, export) == expected
    assert export.stat().st_mode & 0o777 == 0o600
    for path in (rotated, export):
        bare.cli("verify-audit", "--file", path)


def test_a_stop_leaves_nothing_to_export(bare):
    export = bare.folder / "audit.jsonl"
    bare.conf = f'audit: {{ file = "{export}"; }};'
    bare.start_server()
    make_records(bare, 5)
    assert bare.server.stop() == 0
    assert [r["event"] for r in rows(export)].count("policy.put") == 5


def test_an_export_of_another_log_is_refused(bare):
    export = bare.folder / "audit.jsonl"
    bare.conf = f'audit: {{ file = "{export}"; }};'
    for content, complaint in [('{"seq": 4711}\n', "it is of another log"), ("root:x:0:0\n", "its last line is no audit record"),
                               ("root:x:0:0\n\n", "its last line is no audit record"), ("a:b\nroot:x", "ends with what is no audit record"),
                               ("root:x", "ends with what is no audit record"), ('root:x\n{"seq":1,', "its last line is no audit record")]:
        export.write_text(content)
        try:
            bare.start_server()
        except AssertionError as e:
            assert complaint in str(e)
        else:
            raise AssertionError("the server started")
        assert export.read_text() == content


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")
def test_what_the_store_has_lost_hides_nothing_that_came_after(folder):
    """A failover: the last records are gone, and others have their numbers."""
    s, export = OnRedis(folder), folder / "audit.jsonl"
    s.redis = Redis(folder / "redis")
    s.conf = f'audit: {{ file = "{export}"; }};'
    try:
        s.start_server()
        make_records(s, 8)
        before = log_of(s)
        wait_for(lambda: before[-1] in rows(export), "all in the export")
        lost = rows(export)[-5:]
        s.redis.cli("XDEL", "{tunnel}:l:audit", *(f"0-{r['seq']}" for r in lost))
        s.redis.cli("XSETID", "{tunnel}:l:audit", f"0-{lost[0]['seq'] - 1}")
        make_records(s, 8)
        after = log_of(s)
        assert after[-1]["seq"] > lost[-1]["seq"] and not [r for r in lost if r in after]
        wait_for(lambda: after[-1] in rows(export), "the last record in the export")
        assert [r for r in rows(export) if r in after and r["seq"] >= lost[0]["seq"]] == [r for r in after if r["seq"] >= lost[0]["seq"]]
        assert [r for r in rows(export) if r in lost] == lost, "what was copied stays"
    finally:
        s.close()
        s.redis.close()


def test_a_full_disk_is_waited_for(bare):
    export, full = bare.folder / "audit.jsonl", bare.folder / "full"
    full.symlink_to("/dev/full")
    export.symlink_to(full)
    bare.conf = f'audit: {{ file = "{export}"; }};'
    bare.start_server()
    make_records(bare, 3)
    bare.server.wait_log("trying again")
    wait_for(lambda: log_of(bare)[-1]["event"] == "policy.put", "the records in the log")
    export.unlink()
    wait_for(lambda: len(rows(export)) >= 3, "the records in the export")
    bare.server.wait_log("can be written again")
    assert rows(export) == log_of(bare)[: len(rows(export))]


class Syslog:
    """A daemon's socket."""

    def __init__(self, path):
        self.path, self.got, self.s = path, [], None

    def open(self):
        self.path.unlink(missing_ok=True)
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.s.bind(str(self.path))
        self.s.settimeout(LIMIT)
        threading.Thread(target=self.run, args=(self.s,), daemon=True).start()

    def run(self, s):
        try:
            while data := s.recv(1 << 20):
                self.got.append(data.decode())
        except OSError:
            pass

    def close(self):
        self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()


def test_syslog_gets_what_it_missed(bare):
    daemon = Syslog(bare.folder / "dev-log")
    bare.conf = f'audit: {{ syslog = "{daemon.path}"; }};'
    bare.start_server()  # without a daemon
    make_records(bare, 3)
    bare.server.wait_log("audit.syslog")
    daemon.open()
    wait_for(lambda: len(daemon.got) >= 3, "the records of before")
    daemon.close()
    make_records(bare, 3)
    daemon.open()
    wait_for(lambda: len(daemon.got) >= 6, "the records of meanwhile")
    assert bare.server.stop() == 0
    bare.start_server()
    make_records(bare, 1)
    expected = log_of(bare)
    wait_for(lambda: expected[-1]["hash"] in daemon.got[-1], "the last record")
    assert all(text.startswith("<86>tunnel-server[") for text in daemon.got)
    assert [json.loads(text.partition(": ")[2]) for text in daemon.got] == expected
    daemon.close()
