"""figures.py STORE_DRIVER PLUGIN: what a document costs in memory and how many changes a second pass, with a redis-server of this machine.
The table of docs/store-redis.md comes from it; no test looks at the times."""

import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from redis_world import World

DRIVER, PLUGIN = sys.argv[1:3]
COUNT = 20000


def memory(redis):
    return int(re.search(r"(?m)^used_memory:(\d+)", redis.cli("info", "memory"))[1])


def fill(store, threads, count, **args):
    began = time.monotonic()
    for number in [store.begin("fill", thread=t, count=count // threads, **args) for t in range(threads)]:
        a = store.end(number)
        assert a["result"] == "OK", a
    return count / (time.monotonic() - began)


w = World(DRIVER, PLUGIN)
try:
    for size, indexes in ((200, 0), (200, 2), (1000, 0), (1000, 2)):
        redis = w.redis("--appendfsync", "no")
        store = w.store(redis)
        before = memory(redis)
        fill(store, 16, COUNT, bytes=size, indexes=indexes)
        print(f"{size} bytes, {indexes} index entries: {(memory(redis) - before) / COUNT:.0f} bytes of memory a document")
        redis.kill()
    for fsync in ("always", "everysec"):
        for threads in (1, 16, 64):
            redis = w.redis("--appendfsync", fsync)
            store = w.store(redis)
            print(f"appendfsync {fsync}, {threads} callers: {fill(store, threads, threads * 400, bytes=1000, indexes=2):.0f} puts a second")
            redis.kill()
finally:
    w.close(False)
