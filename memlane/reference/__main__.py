"""What `make reference` runs: write the pages into a folder, `python -m memlane.reference docs/reference`."""

import sys
from pathlib import Path

from memlane.reference.pages import PAGES


def main(folder: Path) -> None:
    """Write every page."""
    for name, made in PAGES.items():
        (folder / name).write_text(made())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
