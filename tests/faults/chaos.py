"""The storm for as long as one likes: `python -m tests.faults.chaos --rounds 100 --seed 1 --broker redis`.

Ends with 1 if anything was lost, doubled, resurrected, left over or does not add up. The same seed chooses the same
faults, at the same moments; what the processes do between them is theirs.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from tests.faults.count import count
from tests.faults.notes import Notes
from tests.faults.round import Round, play
from tests.faults.strike import named
from tests.faults.tally import Tally, line
from tests.faults.world import World, world
from tests.processes import rabbitmq_server


def main() -> int:
    """Play the rounds that the arguments ask for."""
    given = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    folder = Path(tempfile.mkdtemp(prefix="memlane-chaos-"))
    folder.chmod(0o711)
    with _broker(given.broker, folder) as url, world(folder / "world", url) as made:
        tally = _play_all(made, given)
    _say("\n" + tally.report())
    if given.json:
        tally.write(given.json)
    if tally.good:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    _say(f"the logs and what was found are in {folder}")
    return 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next has the next")
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), default="redis")
    parser.add_argument("--fault", action="append", help="only this fault, in each round; may be given several times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    return parser.parse_args()


@contextmanager
def _broker(name: str, folder: Path) -> Iterator[str | None]:
    """A virtual host of a RabbitMQ, or nothing: a world has a Redis of its own."""
    if name == "redis":
        yield None
        return
    with rabbitmq_server(folder) as server:
        yield server.vhost("storm")


def _play_all(made: World, given: argparse.Namespace) -> Tally:
    """Play round after round, and count all of them once more in the end."""
    faults = [named(name) for name in given.fault] if given.fault else None
    everything = Notes()
    rounds = []
    for seed in range(given.seed, given.seed + given.rounds):
        played, notes = play(made, seed, faults)
        rounds.append(played)
        everything.add(notes)
        _say(line(played))
        if not played.good:
            _keep(made, played, f"make chaos ROUNDS=1 SEED={seed} BROKER={given.broker}")
    return Tally(given.broker, rounds, count(made.servers, everything, "r"))


def _keep(made: World, played: Round, again: str) -> None:
    """Keep the logs of a round that failed beside what was found."""
    target = made.folder.parent / f"seed-{played.seed}"
    target.mkdir(exist_ok=True)
    (target / "found.txt").write_text("\n".join([*played.faults, *played.counted.wrong, ""]))
    for log in made.folder.glob("*.log"):
        shutil.copy(log, target)
    for finding in played.counted.wrong[:5]:
        _say(f"  {finding}")
    _say(f"  logs: {target}; again: {again}")


if __name__ == "__main__":
    sys.exit(main())
