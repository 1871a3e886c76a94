"""The faults, and the seeded order in which they come.

A fault is drawn completely (kind, whom, how long) before anything runs, so a seed always gives the same sequence. Each
kind's function does it, lifts it, and returns the time of the lift (monotonic ns): from then on nothing is in the way.
"""

import math
import os
import random
import signal
import threading
import time

LONG = 8.0  # seconds: the longest silence


def kind_of(kind, area):
    def note(cls):
        cls.kind, cls.area = kind, area
        KINDS[kind] = cls
        return cls

    return note


KINDS = {}


class Fault:
    """who: None for all sessions, or the number of one."""

    def __init__(self, rng, longest):
        self.who = rng.choice((None, rng.randrange(1 << 16)))
        self.draw(rng, longest)

    def sessions(self, world):
        return world.sessions if self.who is None else [world.sessions[self.who % len(world.sessions)]]

    def whom(self, world):
        return "all" if self.who is None else self.sessions(world)[0].name

    def text(self, world):
        return self.kind


def draw_gap(rng, longest):
    """How long something is away: half of the times not at all."""
    return rng.choice((0.0, rng.uniform(0.2, min(3.0, longest))))


class RelayFault(Fault):
    graceful = False

    def draw(self, rng, longest):
        self.away = draw_gap(rng, longest)

    def text(self, world):
        return f"{self.kind}, back after {self.away:.1f} s"

    def run(self, world):
        world.stop_server(self.graceful)
        time.sleep(self.away)
        return world.restart_server()


@kind_of("relay-kill", "relay")
class RelayKill(RelayFault):
    pass


@kind_of("relay-drain", "relay")
class RelayDrain(RelayFault):
    graceful = True


@kind_of("agent-kill", "agent")
class AgentKill(Fault):
    def draw(self, rng, longest):
        self.away = draw_gap(rng, longest)

    def text(self, world):
        return f"{self.kind}, back after {self.away:.1f} s"

    def run(self, world):
        world.kill_supervisor()
        time.sleep(self.away)
        return world.restart_supervisor()


class Cut(Fault):
    hit = 0  # connections

    def draw(self, rng, longest):
        self.legs = rng.choice((["client"], ["target"], ["client", "target"]))

    def text(self, world):
        return f"{self.kind} {'+'.join(self.legs)} of {self.whom(world)}"

    def run(self, world):
        pids = []
        if "client" in self.legs:
            pids += [s.cli_pid for s in self.sessions(world)]
        if "target" in self.legs:
            pids += world.workers(self.sessions(world))
            if self.who is None:
                pids.append(world.supervisor().pid)
        self.hit = world.net.cut(pids, self.how)
        return time.monotonic_ns()


@kind_of("cut-rst", "cut")
class CutRst(Cut):
    how = "rst"


@kind_of("cut-fin", "cut")
class CutFin(Cut):
    how = "fin"


@kind_of("black-hole", "net")
class Hole(Fault):
    def draw(self, rng, longest):
        self.legs = rng.choice((["client"], ["target"], ["client", "target"]))
        self.ways = rng.choice((["up"], ["down"], ["up", "down"]))
        self.s = math.exp(rng.uniform(math.log(0.5), math.log(longest)))

    def text(self, world):
        return f"{self.kind} {'+'.join(self.legs)} {'+'.join(self.ways)} for {self.s:.1f} s"

    def run(self, world):
        key = world.net.hole(self.legs, self.ways)
        try:
            time.sleep(self.s)
        finally:
            world.net.heal(key)
        return time.monotonic_ns()


@kind_of("roam", "net")
class Roam(Fault):
    def draw(self, rng, longest):
        self.gone = draw_gap(rng, longest) / 2

    def text(self, world):
        return f"{self.kind}, no network for {self.gone:.1f} s"

    def run(self, world):
        world.net.roam(lambda: time.sleep(self.gone))
        return time.monotonic_ns()


class Sleep(Fault):
    def draw(self, rng, longest):
        self.s = rng.uniform(0.5, min(5.0, longest))

    def text(self, world):
        return f"{self.kind} of {self.whom(world)} for {self.s:.1f} s"

    def run(self, world):
        pids = self.pids(world)
        signal_all(pids, signal.SIGSTOP)
        try:
            time.sleep(self.s)
        finally:
            signal_all(pids, signal.SIGCONT)
        return time.monotonic_ns()


def signal_all(pids, sig):
    for pid in pids:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass


@kind_of("sleep-client", "client")
class SleepClient(Sleep):
    def pids(self, world):
        return [s.cli_pid for s in self.sessions(world)]


@kind_of("sleep-worker", "worker")
class SleepWorker(Sleep):
    def pids(self, world):
        return world.workers(self.sessions(world))


@kind_of("sleep-node", "relay")
class SleepNode(Sleep):
    """When it is for long the agent takes it for dead, and its sessions go elsewhere; then it wakes up and has them still."""

    def draw(self, rng, longest):
        self.s = rng.uniform(15.5, 18) if longest >= LONG and rng.random() < 0.5 else rng.uniform(0.5, min(5.0, longest))

    def text(self, world):
        return f"{self.kind} for {self.s:.1f} s"

    def pids(self, world):
        return [world.home().server.p.pid]


class RedisFault(Fault):
    """The master dies. An answered change is on its disk and at all replicas."""

    def run(self, world):
        world.redis.kill()
        self.wait(world)
        world.redis.start()
        world.redis.settle()  # the next one must find it whole
        return time.monotonic_ns()


@kind_of("redis-kill", "store")
class RedisKill(RedisFault):
    """When it is back sooner than the Sentinels notice, it goes on as master."""

    def draw(self, rng, longest):
        self.away = draw_gap(rng, longest)

    def text(self, world):
        return f"{self.kind}, back after {self.away:.1f} s"

    def wait(self, world):
        time.sleep(self.away)


@kind_of("redis-failover", "store")
class RedisFailover(RedisFault):
    def draw(self, rng, longest):
        pass

    def text(self, world):
        return f"{self.kind}, back when a replica has its place"

    def wait(self, world):
        world.redis.await_succession()


# How often each comes in one deck; every deck has each kind, so a short run has them all.
DECK = {
    "cut-rst": 9, "cut-fin": 6, "relay-kill": 4, "relay-drain": 1, "agent-kill": 2, "black-hole": 3, "roam": 1,
    "sleep-client": 1, "sleep-worker": 1, "burst-together": 2, "burst-recovery": 3,
}  # fmt: skip
CLUSTER_DECK = DECK | {"redis-kill": 2, "redis-failover": 1, "sleep-node": 2}
# While one of these lasts no ping of the sessions it hits can be answered: a shorter pause means that it did nothing.
FELT = ("black-hole", "sleep-client", "sleep-worker", "relay-kill")
CLUSTER_FELT = FELT[:-1]  # the others take the sessions


class Strike:
    """What is done at one time: a fault, or two of them. after: the second comes so long behind the first's lift; None: together."""

    def __init__(self, kind, faults, after, pause):
        self.kind, self.faults, self.after, self.pause = kind, faults, after, pause
        self.start_ns = self.lift_ns = 0
        self.error = None

    def text(self, world):
        between = " and " if self.after is None else f", {self.after * 1000:.0f} ms later "
        return between.join(f.text(world) for f in self.faults)

    def idle(self):
        """Is this a lone cut that found nothing to cut?"""
        return len(self.faults) == 1 and getattr(self.faults[0], "hit", 1) == 0

    def one(self, world, fault):
        try:
            self.lift_ns = max(self.lift_ns, fault.run(world))
        except BaseException as e:  # a thread: raised again by run
            self.error = self.error or e

    def run(self, world):
        self.start_ns = time.monotonic_ns()
        if self.after is None and len(self.faults) > 1:
            threads = [threading.Thread(target=self.one, args=(world, f)) for f in self.faults]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        else:
            self.one(world, self.faults[0])
            for fault in self.faults[1:]:
                time.sleep(self.after)
                self.one(world, fault)
        if self.error:
            raise self.error


def draw_pair(rng, longest, deck):
    """Two faults that do not take each other's place: of different areas."""
    kinds = [k for k in KINDS if k in deck]
    first, second = rng.sample(kinds, 2)
    while KINDS[first].area == KINDS[second].area:
        second = rng.choice(kinds)
    return [KINDS[first](rng, longest), KINDS[second](rng, longest)]


def draw(kind, rng, longest, deck):
    pause = rng.uniform(0, 1)
    after = rng.choice((rng.uniform(0, 0.05), rng.uniform(0.05, 0.5)))
    if kind == "burst-together":
        return Strike(kind, draw_pair(rng, longest, deck), None, pause)
    if kind == "burst-recovery":
        return Strike(kind, draw_pair(rng, longest, deck), after, pause)
    return Strike(kind, [KINDS[kind](rng, longest)], None, pause)


def schedule(seed, longest=LONG, deck=DECK):
    """Endless strikes. The first ones are every kind once, then come shuffled decks."""
    rng = random.Random(f"schedule:{seed}")
    kinds = rng.sample(list(deck), len(deck))
    while True:
        for kind in kinds:
            yield draw(kind, rng, longest, deck)
        kinds = [k for k, n in deck.items() for _ in range(n)]
        rng.shuffle(kinds)
