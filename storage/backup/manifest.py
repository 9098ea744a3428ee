"""The manifest: what a backup holds. It is written last, so that a backup that broke off has none."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest
from os import fsync
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from memlane import __version__
from memlane.errors import Misconfigured
from memlane.storage.migrator import migrations
from memlane.storage.models import Model

FORMAT = 1
"""Version of the manifest and of the files' layout."""

_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Dumped:
    """One schema of a backup.

    Attributes:
        schema: its name.
        file: its dump, in the custom format of pg_dump.
        bytes: the file's size.
        sha256: the file's sum.
        rows: how many rows each table had at the moment of the dump.
        epoch: the shard's; 0 for control.
        migrations: scope and name of what had been applied.
    """

    schema: str
    file: str
    bytes: int
    sha256: str
    rows: Mapping[str, int]
    epoch: int
    migrations: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup: of which version and cluster, when, and each of its schemas; control is the last of them."""

    format: int
    version: str
    created_at: datetime
    shard_count: int
    models: tuple[Model, ...]
    current_model: str | None
    schemas: tuple[Dumped, ...]

    @property
    def rows(self) -> int:
        """Memories in all shards."""
        return sum(dumped.rows.get("memories", 0) for dumped in self.schemas)


_ADAPTER = TypeAdapter(Manifest)


def write(folder: Path, manifest: Manifest) -> None:
    """Make a backup whole."""
    work = folder / f".{_NAME}"
    work.touch(mode=0o600)
    with work.open("r+b") as file:
        file.write(_ADAPTER.dump_json(manifest, indent=2))
        file.flush()
        fsync(file.fileno())
    work.rename(folder / _NAME)


def read(folder: Path) -> Manifest:
    """The manifest of a backup that this version can restore, all of whose files are there and as they were written.

    Raises:
        Misconfigured: says what is wrong with it.
    """
    manifest = _parsed(folder)
    known = {(kind, m.name) for kind in ("control", "shard", "model") for m in migrations(kind)}
    for dumped in manifest.schemas:
        for scope, name in dumped.migrations:
            if (scope if scope in ("control", "shard") else "model", name) not in known:
                raise Misconfigured(
                    f"the backup was made by memlane {manifest.version}, which has a step {name} that this version, "
                    f"{__version__}, does not know: restore it with {manifest.version} or later"
                )
        _check_file(folder, dumped)
    return manifest


def _parsed(folder: Path) -> Manifest:
    try:
        raw = json.loads((folder / _NAME).read_bytes())
    except FileNotFoundError:
        raise Misconfigured(f"{folder} has no {_NAME}: it is no backup, or one that was broken off") from None
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{folder / _NAME} cannot be read: {error}") from None
    made = raw.get("format") if isinstance(raw, dict) else None
    if made != FORMAT:
        raise Misconfigured(f"{folder} is a backup of format {made}; this version, {__version__}, knows {FORMAT}")
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        raise Misconfigured(f"{folder / _NAME} is not as it was written: {error.errors()[0]['loc']}") from None


def _check_file(folder: Path, dumped: Dumped) -> None:
    path = folder / dumped.file
    if Path(dumped.file).name != dumped.file or not path.is_file():
        raise Misconfigured(f"{dumped.file} is missing in {folder}")
    size = path.stat().st_size
    if size != dumped.bytes:
        raise Misconfigured(f"{path} has {size} bytes instead of {dumped.bytes}: the backup was truncated or changed")
    if sum_of(path) != dumped.sha256:
        raise Misconfigured(f"{path} is not as it was written: its SHA-256 is another")


def sum_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
