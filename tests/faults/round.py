"""A round: the load runs, faults strike at random points, then everything comes to rest and is counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from threading import Thread
from time import monotonic, sleep

from tests.faults.count import Counted, Servers, count, left_to_do
from tests.faults.load import load
from tests.faults.notes import Notes
from tests.faults.strike import Fault, Scene, choose
from tests.faults.world import World

LOAD_S = 8.0
"""How long the load runs if nothing strikes; else until the last fault is over."""

QUIET_S = 90.0
"""How long a world may take to come to rest; what is open then is a finding."""

_FIRST_S, _LATE_S, _LAST_S = 0.5, 5.0, 8.0
"""Between which moments of the load faults strike; the last of them in the late part."""


@dataclass(frozen=True)
class Round:
    """What came of a round.

    Attributes:
        seed: with it the same faults are chosen again.
        faults: the names of those that struck, in the order in which they ended.
        memories: how many the load handed over.
        counted: what was found.
        recovery_s: from the end of the last fault until no job was open or leased.
    """

    seed: int
    faults: Sequence[str]
    memories: int
    counted: Counted
    recovery_s: float

    @property
    def good(self) -> bool:
        return not self.counted.wrong


@dataclass
class _Struck:
    """The faults that have ended, with the moment, and what went wrong in the striking of them."""

    ended: list[tuple[float, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def play(world: World, seed: int, faults: Sequence[Fault] | None = None) -> tuple[Round, Notes]:
    """Play a round with the faults of a seed, or with those that are given."""
    rng = Random(seed)
    chosen = choose(rng, with_redis=world.redis is not None) if faults is None else faults
    name = f"r{seed}-{world.rounds}"
    world.rounds += 1
    with load(world.url, world.key, name, seed) as notes:
        struck = _strike(Scene(world, notes, name, rng), chosen)
    recovery_s = rest(world.servers, max((at for at, _ in struck.ended), default=monotonic()))
    counted = count(world.servers, notes, f"{name}-")
    counted.unbalanced.extend(struck.errors)
    world.wait()
    return Round(seed, [fault for _, fault in sorted(struck.ended)], len(notes), counted, recovery_s), notes


def _strike(scene: Scene, faults: Sequence[Fault]) -> _Struck:
    """Let each fault strike at a moment of its own; what it does is decided beforehand, by a generator of its own."""
    struck = _Struck()
    begun = monotonic()
    early = [scene.rng.uniform(_FIRST_S, _LAST_S) for _ in faults[1:]]
    moments = [begun + at for at in (*early, scene.rng.uniform(_LATE_S, _LAST_S))]
    plan = [(at, scene.rng.getrandbits(32), fault) for at, fault in zip(moments, faults, strict=False)]
    threads = [Thread(target=_strike_at, args=(scene, struck, *planned)) for planned in plan]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not threads:
        sleep(LOAD_S)
    return struck


def _strike_at(scene: Scene, struck: _Struck, at: float, seed: int, fault: Fault) -> None:
    sleep(max(0.0, at - monotonic()))
    try:
        fault.strike(Scene(scene.world, scene.notes, scene.name, Random(seed)))
    except Exception as error:  # noqa: BLE001  # a fault that cannot strike proves nothing
        struck.errors.append(f"{fault.name} could not strike: {error!r}")
    struck.ended.append((monotonic(), fault.name))


def rest(servers: Servers, since: float) -> float:
    """Wait until nothing is open or leased; the seconds since a moment."""
    deadline = monotonic() + QUIET_S
    while left_to_do(servers) != 0 and monotonic() < deadline:
        sleep(0.1)
    return monotonic() - since
