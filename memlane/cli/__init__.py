"""The command line `memlane`."""

import sys

from memlane.errors import InvalidInput, MemlaneError


def main() -> None:
    """Run a command; what goes wrong is one clear line, not a stack trace.

    Exit codes: 0 done, 1 an error of the system or a result that is not good, 2 wrong input.
    """
    from memlane.cli.app import app  # here, so that what it imports is in the reach of the handler

    try:
        app(prog_name="memlane")
    except InvalidInput as error:
        _end(error, 2)
    except MemlaneError as error:
        _end(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _end(error: MemlaneError, code: int) -> None:
    sys.stderr.write(f"memlane: {error}\n")
    sys.exit(code)
