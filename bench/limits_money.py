"""Whether a budget holds while everybody draws on it at once, and while those who do are killed; and what asking costs.

Contenders in many processes want a cent each of a budget of a dollar. Somebody outside looks all the time at what is
settled and set aside. In a second race some processes kill themselves between the two.
"""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter, sleep, thread_time

import psutil
import psycopg

from memlane.admin import Admin
from memlane.bench.figures import Percentiles, percentiles
from memlane.bench.ingest import Load, bench_ingest
from memlane.bench.servers import Servers
from memlane.config.settings import Settings
from memlane.storage import spending
from memlane.storage.connections import Row
from memlane.storage.nodes import Node
from memlane.storage.spending import Call, Group
from memlane.tasks.spending import Ask, Purse

PROCESSES = 16
CONTENDERS = 300
KILLED = 10
CENTS = 100
"""In the budget."""

_MODEL = "a-model-that-costs"
_PRICE = 1_000_000
"""In micro-dollars for a million tokens: each costs one."""
_CENT = Ask(Group("race", "somebody"), 10_000)
_LIVES_S = 5.0
"""How long a reservation lives whose holder was killed."""

_LIMIT = b"SELECT control.set_budget(%s, '', 'month', %s, 'defer')"
_SPENT = b"""SELECT settled / (limit_micro * 1e6)::float8, reserved / (limit_micro * 1e6)::float8
FROM control.spending WHERE tenant = %s"""


@dataclass(frozen=True, slots=True)
class Race:
    """What a race for a budget of a dollar came to.

    Attributes:
        contenders: who asked for a cent.
        processes: in which they were.
        killed: how many of these were killed while they held a reservation.
        granted: who got it and lived.
        deferred: who did not.
        highest: the most that was settled and set aside at any look, as a share of the limit.
        looks: how often somebody looked.
        charged: what is charged in the end, as a share of the limit: also what the killed had set aside.
        set_aside: what still is then.
    """

    contenders: int
    processes: int
    killed: int
    granted: int
    deferred: int
    highest: float
    looks: int
    charged: float
    set_aside: float

    @property
    def holds(self) -> bool:
        """Whether the budget held, and whether all of it was given away if nobody was killed."""
        exact = self.killed > 0 or (self.granted, self.deferred) == (CENTS, self.contenders - CENTS)
        return exact and self.granted <= CENTS and self.highest <= 1 and self.charged <= 1 and self.set_aside == 0


@dataclass(frozen=True, slots=True)
class Asking:
    """What it costs to ask the budgets, for one call to a provider.

    Attributes:
        reserve_ms: until the budgets have answered.
        settle_ms: until they know what it came to.
        cpu_ms: of both, in our process and in Postgres.
    """

    reserve_ms: Percentiles
    settle_ms: Percentiles
    cpu_ms: float


def race(settings: Settings, *, killed: int = 0) -> Race:
    """Hold a race; nothing else may use the tenant `race` of the cluster.

    Args:
        settings: of a cluster that is migrated.
        killed: how many processes kill themselves when they have a reservation.
    """
    spawn = get_context("spawn")
    gate = spawn.Event()
    with TemporaryDirectory() as folder, _control(settings) as control:
        _set_up(settings)
        files = [Path(folder) / str(number) for number in range(PROCESSES)]
        runners = [
            spawn.Process(
                target=_contend, args=(settings, len(range(n, CONTENDERS, PROCESSES)), n < killed, file, gate)
            )
            for n, file in enumerate(files)
        ]
        for runner in runners:
            runner.start()
        while not all(file.exists() for file in files):
            sleep(0.05)
        with _looking(settings) as seen:
            gate.set()
            for runner in runners:
                runner.join()
        if killed:
            sleep(_LIVES_S)
        while spending.charge_one(control):
            pass
        charged, set_aside = _spent(settings)
        outcomes = "".join(file.read_text() for file in files)
    return Race(
        contenders=CONTENDERS,
        processes=PROCESSES,
        killed=sum(runner.exitcode == -signal.SIGKILL for runner in runners),
        granted=outcomes.count("+"),
        deferred=outcomes.count("-"),
        highest=max(seen),
        looks=len(seen),
        charged=charged,
        set_aside=set_aside,
    )


def asking(settings: Settings, times: int) -> Asking:
    """Ask and settle so many times, one after the other, for a batch of sixteen agents."""
    asks = {place: Ask(Group("race", f"agent-{place % 16}"), 40) for place in range(256)}
    reserve_ms, settle_ms = [], []
    with _control(settings) as control:
        _set_up(settings, cents=10_000_000)
        purse = Purse(control, _MODEL, 60.0)
        purse.settle(purse.lend(asks), {})
        backend = psutil.Process(control.run(b"SELECT pg_backend_pid()")[0][0])
        before = thread_time() + sum(backend.cpu_times()[:2])
        for _ in range(times):
            begun = perf_counter()
            loan = purse.lend(asks)
            lent = perf_counter()
            purse.settle(loan, loan.used(loan.shares(None)), Call(256, 0.05))
            reserve_ms.append((lent - begun) * 1000)
            settle_ms.append((perf_counter() - lent) * 1000)
        cpu_s = thread_time() + sum(backend.cpu_times()[:2]) - before
    return Asking(percentiles(reserve_ms), percentiles(settle_ms), round(cpu_s * 1000 / times, 2))


@dataclass(frozen=True, slots=True)
class Share:
    """What asking the budgets is of the work of an ingest run.

    Attributes:
        memories: that were made searchable.
        calls: to the provider, each with a reservation.
        cpu_s: of all processes of the stack, from the first memory to the last.
        asking_cpu_s: of the calls, at what one costs.
    """

    memories: int
    calls: int
    cpu_s: float
    asking_cpu_s: float

    @property
    def percent(self) -> float:
        """Of the CPU seconds."""
        return round(100 * self.asking_cpu_s / self.cpu_s, 2)


def share(here: Servers, memories: int, asked: Asking) -> Share:
    """Take in so many memories under a budget that allows them, and see what of the work was asking."""
    with closing(Admin(here.url, here.secrets.admin_key)) as admin, psycopg.connect(here.postgres("memlane")) as sql:
        tenant = admin.tenants()[0].tenant
        sql.execute(_LIMIT, (tenant, 1_000_000_000))
        sql.commit()
        before = _cpu_s(here)
        load = Load(memories, 100, 100, 4, here.provider)
        found = bench_ingest(here.url, here.secrets.tenant_key, admin, load, lambda _: None)
        cpu_s = _cpu_s(here) - before
    calls = found.provider.requests if found.provider else 0
    return Share(memories, calls, round(cpu_s, 2), round(calls * asked.cpu_ms / 1000, 2))


def _cpu_s(here: Servers) -> float:
    """User and system, of all processes of a stack and of those of their children that have ended."""
    processes = [psutil.Process(process.pid) for process in here.state.processes]
    times = [one.cpu_times() for parent in processes for one in (parent, *parent.children(recursive=True))]
    return float(sum(sum(time[:4]) for time in times))


@contextmanager
def _control(settings: Settings, connections: int = 1) -> Iterator[Node]:
    name = settings.control
    node = Node(name, settings.nodes[name].get_secret_value(), settings, "bench", connections)
    node.open()
    try:
        yield node
    finally:
        node.close()


def _set_up(settings: Settings, cents: int = CENTS) -> None:
    _sql(settings, b"INSERT INTO control.tenants (tenant) VALUES ('race') ON CONFLICT DO NOTHING")
    _sql(settings, b"INSERT INTO control.prices VALUES (%s, %s) ON CONFLICT DO NOTHING", _MODEL, _PRICE)
    for table in (b"reservations", b"usage", b"spending", b"budgets"):
        _sql(settings, b"DELETE FROM control." + table)
    _sql(settings, _LIMIT, "race", cents * 10_000)


def _sql(settings: Settings, query: bytes, *values: object) -> list[Row]:
    uri = settings.nodes[settings.control].get_secret_value()
    with psycopg.connect(uri, autocommit=True) as connection:
        cursor = connection.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def _spent(settings: Settings) -> tuple[float, float]:
    ((settled, reserved),) = _sql(settings, _SPENT, "race")
    return settled, reserved


def _contend(settings: Settings, contenders: int, dies: bool, file: Path, gate: Event) -> None:
    """So many contenders in a process; each notes with one write how it went."""
    with _control(settings, 4) as control, file.open("ab", buffering=0) as notes:
        purse = Purse(control, _MODEL, _LIVES_S)

        def contend(_number: int) -> None:
            loan = purse.lend({0: _CENT})
            if not loan.granted:
                notes.write(b"-")
                return
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            purse.settle(loan, loan.used(loan.shares(None)), Call(1, 0.05))
            notes.write(b"+")

        gate.wait()
        with ThreadPoolExecutor(contenders) as pool:
            list(pool.map(contend, range(contenders)))


@contextmanager
def _looking(settings: Settings) -> Iterator[list[float]]:
    """Look at the budget all the time, from outside."""
    seen: list[float] = [0.0]
    done = False

    def look() -> None:
        uri = settings.nodes[settings.control].get_secret_value()
        with psycopg.connect(uri, autocommit=True) as connection:
            while not done:
                seen.extend(sum(row) for row in connection.execute(_SPENT, ("race",)))

    thread = Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done = True
        thread.join()
