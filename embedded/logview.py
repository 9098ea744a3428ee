"""One view of all logs: each new line, after the name of its process."""

from pathlib import Path
from threading import Event, Thread
from time import sleep

from rich.console import Console
from rich.text import Text

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


class LogView:
    """Follows the logs in a folder, from now on, until it is closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._console = Console(stderr=True, highlight=False)
        self._offsets = {path: path.stat().st_size for path in folder.glob("*.log")}
        self._closed = Event()
        self._thread = Thread(target=self._follow, name="logview", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show what there is still to be shown, and end."""
        self._closed.set()
        self._thread.join(timeout=2.0)

    def _follow(self) -> None:
        while not self._closed.is_set():
            self._show_new()
            sleep(0.2)
        self._show_new()

    def _show_new(self) -> None:
        for number, path in enumerate(sorted(self._folder.glob("*.log"))):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                lines, _, rest = file.read().rpartition(b"\n")
                self._offsets[path] = file.tell() - len(rest)
            for line in lines.decode(errors="replace").splitlines():
                name = Text(f"{path.stem:<15} | ", style=_COLOURS[number % len(_COLOURS)])
                self._console.print(name + Text(line), soft_wrap=True)
