"""The data directory: secrets are made once, and what an older version wrote can still be read."""

import json
from pathlib import Path

import pytest

from memlane.embedded.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.prepare()
    return made


def test_secrets_are_made_once(folder: Folder) -> None:
    made = folder.secrets()
    assert folder.secrets() == made
    assert made.flower
    assert len({made.postgres, made.redis, made.flower, made.tenant_key, made.admin_key}) == 5
    assert (folder.path / "secrets.json").stat().st_mode & 0o077 == 0


def test_what_an_older_version_did_not_know_is_made(folder: Folder) -> None:
    older = {"postgres": "p", "redis": "r", "tenant_key": "t", "admin_key": "a"}
    (folder.path / "secrets.json").write_text(json.dumps(older))
    made = folder.secrets()
    assert (made.postgres, made.redis, made.tenant_key, made.admin_key) == ("p", "r", "t", "a")
    assert made.flower
    assert folder.secrets() == made


def test_the_state_of_an_older_version_can_be_read(folder: Folder) -> None:
    older = {"pid": 1, "ready": True, "url": "http://u", "nodes": {}, "redis": "h:1", "processes": []}
    (folder.path / "state.json").write_text(json.dumps(older))
    state = folder.state()
    assert state is not None
    assert state.flower == ""
