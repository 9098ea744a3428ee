"""The storm for as long as one likes: `python -m tests.faults.chaos --rounds 100 --seed 1 --broker redis`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.round import play
from tests.faults.world import world


def main() -> int:
    """Play rounds; 1 if anything was found in any of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="memlane-chaos-"))
    folder.chmod(0o711)
    print(folder)
    with world(folder) as made:
        for seed in range(given.seed, given.seed + given.rounds):
            played, _ = play(made, seed)
            print(played.seed, played.faults, played.memories, round(played.recovery_s, 1), played.counted.wrong[:10], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
