"""test_redis.py STORE_DRIVER PLUGIN DOCS CASE: what is particular to store-redis: what it refuses, and what becomes of it when the server
goes, comes back, stalls, loses its rights or its role. The rules of every store are in tests/conformance."""

import faulthandler
import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from redis_world import Proxy, World, free_port, until

DRIVER, PLUGIN, DOCS, CASE = sys.argv[1:5]


def refused(w, redis, *options, says):
    store = w.store(redis, *options, refused=True)
    assert re.search(says, store.words), f"{store.words!r} does not say {says!r}"


# --- what it refuses to be opened with ---


def test_options_that_do_not_go_together(w):
    for options, says in (
        (["address=a:1", "sentinels=b:2", "master_name=m"], "either address or sentinels; here are both"),
        (["prefix=x"], "either address or sentinels; here are neither"),
        (["sentinels=b:2"], "sentinels and master_name go together"),
        (["address=a:1", "master_name=m"], "sentinels and master_name go together"),
        (["sentinels=/run/x", "master_name=m"], 'sentinels: "/run/x"; allowed: host:port'),
        (["address=a"], '"a" is no server.s address; allowed: host:port'),
        (["address=a:0"], "allowed: host:port"),
        (["address=::1:6379"], "allowed: host:port"),
        (["address=/" + "x" * 200], "path of the socket has 201 bytes; allowed: 107"),
        (["address=a:1", "user=u"], "user needs password_file"),
        (["address=a:1", "tls_ca=/x"], "need tls = true"),
        (["address=a:1", "tls=true", f"tls_key={w.secret('key', 'k')}"], "tls_certificate and tls_key go together"),
        (["address=/run/x", "tls=true"], "tls over a unix socket"),
        (["address=a:1", "prefix=a}b"], "prefix: allowed: a-z"),
        (["address=a:1", "wait_replicas=17"], "0..16|17"),
        (["address=127.0.0.1:1"], "127.0.0.1:1: Connection refused"),
    ):
        refused(w, None, *options, says=says)


def test_server_that_may_evict_is_refused(w):
    redis = w.redis("--maxmemory-policy", "allkeys-lru")
    refused(w, redis, says="has maxmemory-policy allkeys-lru, which may throw away .* allowed: noeviction")
    redis.cli("config", "set", "maxmemory-policy", "volatile-ttl")
    refused(w, redis, says="volatile-ttl.*noeviction")
    redis.cli("config", "set", "maxmemory-policy", "noeviction")
    assert w.store(redis).works()


def answer_as_old(listener):
    while True:
        try:
            s, _ = listener.accept()
        except OSError:
            return
        text = "# Server\r\nredis_version:6.2.6\r\nredis_mode:standalone\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n"
        s.recv(4096)
        s.sendall(f"${len(text)}\r\n{text}\r\n".encode())
        s.recv(4096)
        s.close()


def test_old_server_is_refused(w):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=answer_as_old, args=(listener,), daemon=True).start()
    refused(w, f"127.0.0.1:{listener.getsockname()[1]}", says=r"is version 6\.2\.6; allowed: 7\.0 or newer")
    listener.close()


def test_what_is_not_redis_is_refused(w):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            s.recv(4096)
            s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            s.recv(4096)

    threading.Thread(target=answer, daemon=True).start()
    refused(w, f"127.0.0.1:{listener.getsockname()[1]}", says="not Redis's protocol")
    listener.close()


def test_redis_cluster_is_refused(w):
    redis = w.redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    refused(w, redis, says="runs as cluster; allowed: a single master")


def test_store_of_another_format_is_refused(w):
    redis = w.redis()
    assert w.store(redis).works() and redis.cli("get", "{tunnel}:format") == "1"
    assert w.store(redis).works()
    redis.cli("set", "{tunnel}:format", "2")
    refused(w, redis, says="what is stored with the prefix tunnel has format 2; allowed: 1")
    assert w.store(redis, "prefix=other").works()


def test_replica_is_refused(w):
    master = w.redis()
    replica = w.redis("--replicaof", "127.0.0.1", str(master.port))
    refused(w, replica, says=f"is a replica of 127.0.0.1:{master.port}; allowed: the master")


def test_password_and_its_file(w):
    redis = w.redis("--requirepass", "right-word")
    redis.user = ("-a", "right-word", "--no-auth-warning")
    refused(w, redis, says="NOAUTH")
    refused(w, redis, f"password_file={w.secret('wrong', 'wrong-word')}", says="login: WRONGPASS")
    refused(w, redis, f"password_file={w.secret('open', 'right-word', 0o644)}", says="open: mode 0644 lets others read a secret; run: chmod 600")
    refused(w, redis, f"password_file={w.secret('empty', chr(10))}", says="empty: allowed: one line of 1 to 512 bytes")
    refused(w, redis, f"password_file={w.folder}/none", says="none: No such file")
    store = w.store(redis, f"password_file={w.secret('right', 'right-word' + chr(10))}")
    assert store.works() and "right-word" not in "".join(store.logged)


def test_password_that_is_changed_needs_no_restart(w):
    redis = w.redis("--requirepass", "first")
    redis.user = ("-a", "first", "--no-auth-warning")
    file = w.secret("password", "first")
    store = w.store(redis, f"password_file={file}")
    assert store.works()
    redis.cli("config", "set", "requirepass", "second")
    redis.user = ("-a", "second", "--no-auth-warning")
    file.write_text("second")
    redis.cli("client", "kill", "type", "normal", "skipme", "yes")
    until("it works with the new password", store.works)


# --- rights ---


def documented_rules():
    text = Path(DOCS).read_text()
    return re.search(r"(?m)^user tunnel on >PASSWORD (.*)$", text)[1].split()


def documented_default():
    text = Path(DOCS).read_text()
    return re.search(r"(?m)^user default (.*)$", text)[1].split()


def use_everything(store, log="log"):
    assert store.put("a", 1, indexes=[["kind", "x"]], expires_ms=int(time.time() * 1000) + 3600000)["number"] == 1
    assert store.put("a", 2, expect=1, indexes=[["kind", "y"]])["number"] == 2
    assert store.put("a", 2, expect=1)["result"] == "CONFLICT"
    assert store.get("a") == 2
    assert [r[0] for r in store.ok("scan", collection="docs", index="kind", index_value="y")["rows"]] == ["a"]
    assert store.ok("append", log=log, records=["1", "2"])["number"] == 1
    assert [r[1] for r in store.ok("read", log=log)["rows"]] == ["1", "2"]
    store.ok("subscribe")
    until("a message is heard", lambda: store.ok("publish", channel="news", message="{}") and not store.events.empty())
    store.put("soon", 1, expires_ms=int(time.time() * 1000) + 1)
    store.ok("del", collection="docs", key="a", expect=2)
    assert store.works()


def test_documented_rights_suffice(w):
    redis = w.redis()
    redis.cli("acl", "setuser", "tunnel", "on", ">word", *documented_rules())
    options = ["user=tunnel", f"password_file={w.secret('word', 'word')}", "purge_interval=20ms"]
    store = w.store(redis, *options)
    use_everything(store)
    until("what has expired is gone", lambda: redis.cli("zcard", "{tunnel}:x") == "0")
    assert store.log_lines("refuses") == [], store.logged
    # Without what the page says may be left out; and a right that is missing is named.
    redis.cli("acl", "setuser", "tunnel", "-config|get", "-acl|dryrun")
    use_everything(w.store(redis, *options), log="second")
    redis.cli("acl", "setuser", "tunnel", "-info")
    refused(w, redis, *options, says="INFO: a right is missing .*NOPERM .*info")
    redis.cli("acl", "setuser", "tunnel", "+info", "-xadd")
    a = store.do("append", log="log", records=["3"])
    assert a["result"] == "CONFIG" and "append: a right is missing (docs/store-redis.md lists them)" in a["words"], a
    redis.cli("acl", "setuser", "tunnel", "+xadd")
    assert store.ok("append", log="log", records=["3"])["number"] == 3
    # Nothing outside its prefix.
    refused(w, redis, *options, "prefix=other", says="a right is missing")


def test_database_and_prefix(w):
    redis = w.redis()
    one, two, three = w.store(redis), w.store(redis, "database=3"), w.store(redis, "prefix=other")
    for n, store in enumerate((one, two, three)):
        assert store.put("a", n, expect=0)["result"] == "OK"
    assert [s.get("a") for s in (one, two, three)] == [0, 1, 2]
    one.ok("subscribe")
    two.ok("subscribe")
    until("heard", lambda: one.ok("publish", channel="news", message="1") and not one.events.empty())
    assert two.events.empty()
    refused(w, redis, "database=16", says="SELECT: ERR DB index is out of range")


# --- TLS ---


def make_certificates(folder):
    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=folder)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-x509", *new, "-subj", "/CN=other", "-keyout", "other.key", "-out", "other.pem")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:redis.example\n")
    openssl("req", *new, "-subj", "/CN=redis", "-keyout", "redis.key", "-out", "redis.csr")
    openssl("x509", "-req", "-in", "redis.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext", "-out", "redis.pem")


def test_tls(w):
    make_certificates(w.folder)
    f = w.folder
    redis = w.redis("--tls-cert-file", f / "redis.pem", "--tls-key-file", f / "redis.key", "--tls-ca-cert-file", f / "ca.pem", port_option="--tls-port")
    ours = [f"tls_certificate={f}/redis.pem", f"tls_key={f}/redis.key"]
    store = w.store(redis, "tls=true", f"tls_ca={f}/ca.pem", *ours)
    use_everything(store)
    assert store.put("big", "x" * 60000)["result"] == "OK" and store.get("big") == "x" * 60000
    ids = [store.begin("put", collection="docs", key=f"k{i}", value=json.dumps("y" * 20000)) for i in range(40)]
    for i in ids:
        a = store.end(i)
        assert a["result"] == "OK", a
    assert len(store.ok("scan", collection="docs", prefix="k")["rows"]) == 40
    assert w.store(redis, "tls=true", f"tls_ca={f}/ca.pem", "tls_name=redis.example", *ours).works()
    refused(w, redis, "tls=true", f"tls_ca={f}/ca.pem", "tls_name=else.example", *ours, says="certificate is not taken: .*ismatch")
    refused(w, redis, "tls=true", f"tls_ca={f}/other.pem", *ours, says="certificate is not taken")
    refused(w, redis, "tls=true", *ours, says="certificate is not taken")
    refused(w, redis, "tls=true", f"tls_ca={f}/ca.pem", says="TLS|closed|reset")  # it wants a certificate of ours
    refused(w, redis, "tls=true", f"tls_ca={f}/none.pem", says="tls_ca .*none.pem cannot be used")
    refused(w, redis, "connect_timeout=500ms", says="127.0.0.1")  # in the clear
    refused(w, w.redis(), "tls=true", "connect_timeout=500ms", f"tls_ca={f}/ca.pem", says="TLS|in time|closed|reset")


# --- what an answer promises ---


def test_replicas_are_waited_for(w):
    redis = w.redis()
    store = w.store(redis, "wait_replicas=1", "wait_time=50ms")
    a = store.put("a", 1)
    assert a["result"] == "UNAVAILABLE" and "it is written, but after 50 ms 0 replicas have it; wait_replicas is 1" in a["words"], a
    assert not store.works() and store.get("a") == 1  # as if in doubt, and here it is
    replica = w.redis("--replicaof", "127.0.0.1", str(redis.port))
    until("the replica is in step", store.works)
    until("a change is taken", lambda: store.put("b", 2)["result"] == "OK")
    replica.kill()
    until("it is missed", lambda: store.put("c", 3)["result"] == "UNAVAILABLE")
    assert len(store.log_lines("Redis refuses changes")) >= 1


def test_nothing_is_answered_before_the_replicas_are_heard_of(w):
    new = b"*2\r\n:0\r\n:1\r\n"  # a document that was not there is put
    redis = w.redis()
    proxy = Proxy(redis.port, cut=lambda data: len(new) if data.startswith(new + new) else None)
    store = w.store(f"127.0.0.1:{proxy.port}", "wait_replicas=1", "wait_time=300ms")

    def two_in_one_batch(_=itertools.count()):
        n = next(_)
        first, *two = [store.begin("put", collection="docs", key=f"{k}{n}", value="1") for k in "abc"]
        store.end(first)
        answers = [store.end(one) for one in two]
        assert all(a["result"] == "UNAVAILABLE" for a in answers), answers
        return all("whether it was written is unknown" in a["words"] for a in answers)

    until("the connection breaks between two answers", two_in_one_batch)


def told(store, words):
    until(f"the log says: {words}", lambda: store.log_lines(words))


def test_settings_that_lose_data_are_told(w):
    redis = w.redis()
    assert not w.store(redis).log_lines("append")
    redis.cli("config", "set", "appendfsync", "everysec")
    told(w.store(redis), "two seconds")
    redis.cli("config", "set", "appendfsync", "no")
    told(w.store(redis), "appendfsync is no")
    redis.cli("config", "set", "appendonly", "no")
    told(w.store(redis), "appendonly is off")


def all_logged(store, words):
    """What it has said when it has ended: nothing is still to come."""
    assert store.works()
    store.close()
    return store.log_lines(words)


def test_a_default_user_without_rights_is_told(w):
    # Redis reads its append-only file as that user; what he may not do is dropped when it is started again.
    words = "its user default may not write"
    redis = w.redis()
    redis.cli("acl", "setuser", "tunnel", "on", ">word", *documented_rules())
    options = ["user=tunnel", f"password_file={w.secret('word', 'word')}"]
    assert not all_logged(w.store(redis, *options), words)
    redis.cli("acl", "setuser", "root", "on", "nopass", "~*", "&*", "+@all")
    redis.user = ("--user", "root", "--pass", "", "--no-auth-warning")
    for shut in (["reset"], ["reset", "~*", "+@all", "-xadd"], ["reset", "~other:*", "+@all"]):
        redis.cli("acl", "setuser", "default", *shut)
        assert len(all_logged(w.store(redis, *options), words)) == 1
    redis.cli("acl", "setuser", "tunnel", "-acl|dryrun")
    assert not all_logged(w.store(redis, *options), words)
    redis.cli("acl", "setuser", "tunnel", "+acl|dryrun")
    redis.cli("acl", "setuser", "default", *documented_default())
    assert not all_logged(w.store(redis, *options), words)


def test_the_documented_default_user_costs_nothing(w):
    # The page's own lines, in the file that Redis is started with.
    file = w.folder / "users.acl"
    file.write_text("user tunnel on >word " + " ".join(documented_rules()) + "\nuser default " + " ".join(documented_default()) + "\n")
    redis = w.redis("--aclfile", file)
    redis.user = ("--user", "tunnel", "--pass", "word", "--no-auth-warning")
    store = w.store(redis, "user=tunnel", f"password_file={w.secret('word', 'word')}")
    assert store.put("a", 1, indexes=[["kind", "x"]])["number"] == 1
    assert store.ok("append", log="log", records=["1"])["number"] == 1
    redis.user = ("--user", "nobody", "--pass", "", "--no-auth-warning")
    assert "WRONGPASS" in redis.cli("ping", check=False)
    redis.user = ()
    assert "NOAUTH" in redis.cli("ping", check=False)
    redis.kill()
    redis.start()
    until("it is back", store.works)
    assert store.get("a") == 1 and [r[1] for r in store.ok("read", log="log")["rows"]] == ["1"]


def check_storm(store, answers):
    """What was answered in a storm is there: documents not older than answered, records at their place, numbers without a gap."""
    records, at = [], 1
    while True:
        rows = store.ok("read", log="storm", **{"from": at})["rows"]
        if not rows:
            break
        assert [r[2] for r in rows] == list(range(at, at + len(rows)))
        records += [json.loads(r[1]) for r in rows]
        at += len(rows)
    for a in answers:
        assert a["seq"] == 0 or records[a["seq"] - 1] == [a["storm"], a["n"]], a
    for thread in {a["storm"] for a in answers}:
        last = max((a for a in answers if a["storm"] == thread and a["version"]), key=lambda a: a["n"])
        rows = store.ok("get", collection="storm", key=f"d{thread}")["rows"]
        assert json.loads(rows[0][1])[1] >= last["n"] and rows[0][2] >= last["version"], (rows, last)


def test_answered_changes_survive_kill_of_redis(w):
    redis = w.redis()
    store = w.store(redis, "answer_timeout=1s")
    for thread in range(6):
        store.begin("storm", thread=thread)
    for _ in range(3):
        before = len(store.storm)
        until("changes are answered", lambda: sum(1 for a in store.storm[before:] if a["seq"]) > 100)
        redis.kill()
        redis.start()
    until("changes are answered again", lambda: store.storm[-1]["seq"])
    redis.kill()
    answers = list(store.storm)
    redis.start()
    assert sum(1 for a in answers if a["seq"]) > 300
    check_storm(w.store(redis), answers)


def test_late_change_of_a_lost_connection_does_nothing(w):
    redis = w.redis()
    proxy = Proxy(redis.port)
    store = w.store(f"127.0.0.1:{proxy.port}", "answer_timeout=300ms")
    assert store.put("a", "first")["result"] == "OK"
    proxy.hold()
    late = store.put("a", "late")
    assert late["result"] in ("UNAVAILABLE", "TIMEOUT") and "unknown" in late["words"], late
    until("a new connection is made", lambda: store.put("a", "newer")["result"] == "OK")
    proxy.release()
    gone = redis.cli("client", "list").count("fd=")
    until("what was held has been read", lambda: "evalsha" not in redis.cli("client", "list") or gone)
    for _ in range(20):
        assert store.get("a") == "newer"
        assert store.put("b", 1)["result"] == "OK"
    assert int(re.search(r"cmdstat_evalsha:calls=(\d+)", redis.cli("info", "commandstats"))[1]) > 22  # the late one has run


def test_lost_script_and_lost_fence_are_made_again(w):
    redis = w.redis()
    store = w.store(redis)
    assert store.put("a", 1)["result"] == "OK"
    redis.cli("script", "flush")
    assert store.put("a", 2)["number"] == 2
    redis.cli("script", "flush")
    assert len(store.ok("scan", collection="docs")["rows"]) == 1
    (fence,) = redis.cli("keys", "{tunnel}:f:*").split()
    redis.cli("del", fence)
    assert store.put("a", 3)["number"] == 3
    redis.cli("flushall")
    assert store.put("a", 4)["number"] == 1


def test_server_that_takes_no_changes(w):
    redis = w.redis()
    store = w.store(redis)
    assert store.put("a", 1)["result"] == "OK"
    redis.cli("config", "set", "maxmemory", "1")
    for _ in range(3):
        a = store.put("a", 2)
        assert a["result"] == "UNAVAILABLE" and "OOM" in a["words"], a
    assert not store.works() and store.get("a") == 1
    redis.cli("config", "set", "maxmemory", "0")
    assert store.put("a", 3, expect=1)["result"] == "OK" and store.works()
    until("told", lambda: store.log_lines("takes changes again"))
    assert len(store.log_lines("Redis refuses changes")) == 1


def test_nothing_is_left_behind(w):
    redis = w.redis()
    store = w.store(redis, "purge_interval=20ms")
    soon = int(time.time() * 1000) + 500
    for i in range(250):
        assert store.put(f"k{i}", i, expires_ms=soon, indexes=[["kind", f"x{i % 3}"], ["odd \n\"\\", "y"]][: 1 + 0])["result"] == "OK"
    assert store.put("stays", 1, indexes=[["kind", "a\nb\"\\/\x7f\u00e9"]])["result"] == "OK"
    until("what has expired is gone", lambda: redis.cli("zcard", "{tunnel}:x") == "0")
    assert [r[0] for r in store.ok("scan", collection="docs")["rows"]] == ["stays"]
    assert len(redis.cli("keys", "{tunnel}:i:*").split("\n{")) == 1
    store.ok("del", collection="docs", key="stays")
    left = {k.split(":")[1] for k in redis.cli("keys", "*").split()}
    assert left == {"f", "format"}, left


# --- a server that goes and comes back ---


def test_server_gone_and_back(w):
    redis = w.redis()
    store = w.store(redis)
    store.ok("subscribe")
    assert store.put("a", 1)["result"] == "OK"
    redis.kill()
    for op in ({"op": "put", "collection": "docs", "key": "a", "value": "2"}, {"op": "get", "collection": "docs", "key": "a"}, {"op": "health"},
               {"op": "publish", "channel": "c", "message": ""}, {"op": "scan", "collection": "docs"}):
        a = until("refused at once", lambda: (lambda a: a["result"] == "UNAVAILABLE" and a)(store.do(**op)))
        assert re.search("refused|closed|reset", a["words"]), a
    redis.start()
    until("it works again", store.works)
    assert store.get("a") == 1 and store.put("a", 2, expect=1)["result"] == "OK"
    until("messages are heard again", lambda: store.ok("publish", channel="c", message="x") and not store.events.empty())
    assert len(store.log_lines("no Redis; trying again")) == 1 and len(store.log_lines("Redis answers again")) == 1, store.logged
    assert len(store.log_lines("are not heard for now")) == 1 and len(store.log_lines("are heard again")) == 1, store.logged


def test_connections_that_are_cut(w):
    redis = w.redis()
    store = w.store(redis)
    store.ok("subscribe")
    until("heard", lambda: store.ok("publish", channel="c", message="1") and not store.events.empty())
    for _ in range(5):
        redis.cli("client", "kill", "type", "normal")
        assert store.get("a") is None and store.put("b", 1)["result"] == "OK"
    redis.cli("client", "kill", "type", "pubsub")
    until("noticed", lambda: store.log_lines("are heard again"))
    while not store.events.empty():
        store.events.get()
    store.ok("publish", channel="c", message="after")
    assert store.events.get(timeout=60) == ("c", "after")
    assert len(store.log_lines("are not heard for now")) == 1 and not store.log_lines("no Redis")


def test_a_message_whose_answer_is_lost_is_not_told_again(w):
    redis = w.redis()
    proxy = Proxy(redis.port, cut=lambda data: 0 if data == b":2\r\n" else None)  # two have heard it
    store = w.store(f"127.0.0.1:{proxy.port}")
    hearers = [w.store(redis) for _ in range(2)]
    for one in hearers:
        one.ok("subscribe")
    until("both hear", lambda: redis.cli("pubsub", "numsub", "{tunnel}:events:0").endswith("2"))
    assert store.get("a") is None  # over a connection that stays
    a = store.do("publish", channel="c", message="once")
    assert a["result"] == "UNAVAILABLE", a
    hearers[0].ok("publish", channel="c", message="last")
    for one in hearers:
        assert [one.events.get(timeout=60) for _ in range(2)] == [("c", "once"), ("c", "last")]


def test_messages_that_come_in_one_piece(w):
    redis = w.redis()
    store = w.store(redis, "answer_timeout=60s")
    store.ok("subscribe")
    until("heard", lambda: store.ok("publish", channel="c", message="first") and not store.events.empty())
    redis.cli("eval", "for i = 1, 1000 do redis.call('publish', KEYS[1], 'many ' .. i) end", 1, "{tunnel}:events:0")
    until("all are sent", lambda: " obl=0 oll=0 " in redis.cli("client", "list", "type", "pubsub"))
    redis.send(signal.SIGSTOP)  # nothing further comes that could wake the subscriber
    heard = []
    while len(heard) < 1000:
        channel, message = store.events.get(timeout=60)
        heard += [message] if channel == "many" else []
    assert heard == [str(i) for i in range(1, 1001)]


def test_messages_of_nobody(w):
    """What has no channel, or one whose name would end early, is passed over."""
    redis = w.redis()
    store = w.store(redis)
    store.ok("subscribe")
    until("heard", lambda: store.ok("publish", channel="c", message="first") and not store.events.empty())
    for text in ("no-channel", " no-name", r"c\000x forged", "n" * 65 + " too long"):
        redis.cli("eval", f"redis.call('publish', KEYS[1], '{text}')", 1, "{tunnel}:events:0")
    store.ok("publish", channel="c", message="last")
    heard = []
    while heard[-1:] != ["last"]:
        channel, message = store.events.get(timeout=60)
        assert channel == "c"
        heard += [message] if message != "first" else []
    assert heard == ["last"]


def test_stalled_server_is_answered_for_by_the_deadline(w):
    redis = w.redis()
    store = w.store(redis, "answer_timeout=60s")
    assert store.put("a", 1)["result"] == "OK" and store.get("a") == 1
    redis.send(signal.SIGSTOP)
    asked = [store.begin("put", collection="docs", key="a", value="2", within_ms=300), store.begin("get", collection="docs", key="a", within_ms=300),
             store.begin("health", within_ms=300), store.begin("scan", collection="docs", within_ms=300),
             store.begin("publish", channel="c", message="", within_ms=300)]
    for number in asked:
        a = store.end(number)
        assert a["result"] == "TIMEOUT" and a["took_ms"] >= 300, a
    redis.send(signal.SIGCONT)
    # What was in doubt is decided before the next change is answered.
    a = store.put("b", 1)
    assert a["result"] == "OK"
    assert store.get("a") in (1, 2)


def test_stalled_server_is_given_up(w):
    redis = w.redis()
    store = w.store(redis, "answer_timeout=200ms", "connect_timeout=200ms")
    assert store.put("a", 1)["result"] == "OK"
    redis.send(signal.SIGSTOP)
    a = store.put("a", 2)
    assert a["result"] == "UNAVAILABLE" and "no answer in time; whether it was written is unknown" in a["words"], a
    until("refused at once", lambda: "no answer in time" in store.put("a", 3)["words"])
    redis.send(signal.SIGCONT)
    until("it works again", store.works)
    assert store.put("a", 4)["result"] == "OK" and store.get("a") == 4


def test_master_that_becomes_a_replica(w):
    redis, other = w.redis(), w.redis()
    store = w.store(redis)
    assert store.put("a", 1)["result"] == "OK" and store.works()
    redis.cli("replicaof", "127.0.0.1", other.port)
    a = store.put("a", 2)
    assert a["result"] == "UNAVAILABLE" and re.search("READONLY|is a replica of", a["words"]), a
    until("told", lambda: "is a replica of" in store.do("health")["words"])
    assert store.do("get", collection="docs", key="a")["result"] == "UNAVAILABLE"  # what it has may be old
    redis.cli("replicaof", "no", "one")
    until("it works again", store.works)
    assert store.put("a", 3)["result"] == "OK"


def test_server_that_may_evict_after_a_restart_is_refused(w):
    redis = w.redis()
    store = w.store(redis)
    redis.kill()
    redis.args = ("--maxmemory-policy", "allkeys-lfu")
    redis.start()
    until("refused", lambda: "maxmemory-policy allkeys-lfu" in store.put("a", 1)["words"])
    assert len(store.log_lines("allkeys-lfu")) == 1
    redis.cli("config", "set", "maxmemory-policy", "noeviction")
    until("it works again", store.works)


def test_sentinel_failover(w):
    master = w.redis()
    replicas = [w.redis("--replicaof", "127.0.0.1", str(master.port)) for _ in range(2)]
    word = w.secret("sentinel-word", "sentinel-word")
    sentinels = [w.redis(sentinel=f"requirepass sentinel-word\nsentinel sentinel-pass sentinel-word\nsentinel monitor main 127.0.0.1 {master.port} 2\n"
                                  "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000\n") for _ in range(3)]
    for s in sentinels:
        s.user = ("-a", "sentinel-word", "--no-auth-warning")
        until("it sees both replicas and all Sentinels", lambda: "slaves=2,sentinels=3" in s.cli("info", "sentinel"))
    options = [f"sentinels={a}" for a in [f"127.0.0.1:{free_port()}"] + [s.address for s in sentinels]]  # the first is not there
    options += ["master_name=main", f"sentinel_password_file={word}", "wait_replicas=1", "answer_timeout=1s"]
    refused(w, None, *options[:4], "master_name=other", f"sentinel_password_file={word}", says='no master of the name "other"')
    refused(w, None, *options[:4], "master_name=main", says="NOAUTH|Sentinel")
    store = w.store(None, *options)
    store.ok("subscribe")
    until("the replicas are in step", store.works)
    for thread in range(4):
        store.begin("storm", thread=thread)
    until("changes are answered", lambda: sum(1 for a in store.storm if a["seq"]) > 50)
    master.kill()
    # Who is promoted or told of the new master throws its clients out.
    until("the failover is over", lambda: any("role:master" in r.cli("info", "replication", check=False) for r in replicas))
    until("the store works on the new master", store.works)
    before = len(store.storm)
    until("changes are answered again", lambda: sum(1 for a in store.storm[before:] if a["seq"]) > 50)
    while not store.events.empty():
        store.events.get()
    until("messages are heard again", lambda: store.ok("publish", channel="c", message="x") and not store.events.empty())
    answers = list(store.storm)
    check_storm(w.store(None, *options), answers)  # a replica had each of them


def main():
    if not shutil.which("redis-server"):
        print("no redis-server")
        return 77
    faulthandler.dump_traceback_later(280, exit=True)
    w, good = World(DRIVER, PLUGIN), False
    try:
        globals()["test_" + CASE](w)
        good = True
    finally:
        w.close(good)
    return 0


if __name__ == "__main__":
    sys.exit(main())
