"""The embedded stack as a user runs it: up, down, demo, and what is in the way of each."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import termios
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic, sleep

import httpx
import psutil
import psycopg
import pytest
import redis

from memlane import Client
from memlane.embedded.folder import Folder
from memlane.embedded.ports import free_port
from tests.commands import MEMLANE, Run, document
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture
def stack(run: Run, process_folder: Path) -> Iterator[Folder]:
    """A stack in the background."""
    run("up", "--detach", "--embedder", "hash", "--port", "0", "--workers", "2", "--nodes", "2")
    yield Folder(process_folder / "data")
    run("down", code=None)


def processes(folder: Folder) -> list[psutil.Process]:
    """Everything that runs for a stack."""
    state = folder.state()
    assert state is not None
    return [psutil.Process(state.pid), *psutil.Process(state.pid).children(recursive=True)]


def gone(found: list[psutil.Process]) -> bool:
    return not [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_day_with_a_stack(stack: Folder, run: Run, process_folder: Path) -> None:
    assert document(run("remember", "ada", "green tea", "--tag", "drink", "--wait", "--json"))["state"] == "searchable"
    (hit,) = document(run("recall", "ada", "tea?", "--json"))["hits"]
    assert hit["memory"]["content"] == "green tea"
    assert "green tea" in run("list", "ada").stdout
    assert run("recall", "nobody", "tea").stdout.strip() == "nothing found"
    lines = process_folder / "lines.jsonl"
    lines.write_text(
        '{"agent": "ada", "content": "one"}\n{"agent": "ada"}\nnonsense\n{"agent": "ada", "content": "two"}\n'
    )
    done = run("ingest", str(lines), code=1)
    assert "2 accepted, 0 there already, 2 bad" in done.stdout
    assert "line 2: content" in done.stderr
    assert "line 3: is not JSON" in done.stderr
    assert document(run("ledger", "--json"))["events"]["accepted"] == 3
    found = document(run("status", "--json"))
    assert {node["name"]: node["settings"]["fsync"] for node in found["nodes"]} == {"node-1": "on", "node-2": "on"}
    assert len(document(run("shards", "--json"))) == 8
    found = document(run("nodes", "--json"))
    assert [(node["name"], [member["role"] for member in node["members"]]) for node in found] == [
        ("node-1", ["primary"]),
        ("node-2", ["primary"]),
    ]
    assert "there is nobody to be promoted" in run("nodes", "promote", "node-1", code=1).stderr
    assert "the nodes are node-1, node-2" in run("nodes", "promote", "node-3", code=1).stderr
    assert "no server of node-1 is out" in run("nodes", "rejoin", "node-1", code=1).stderr
    run("tenants", "create", "acme")
    assert {t["tenant"] for t in document(run("tenants", "list", "--json"))} == {"default", "acme"}
    key = document(run("keys", "create", "acme", "--json"))["key"]
    assert document(run("list", "ada", "--json", "--url", _url(stack), "--api-key", key)) == []
    assert document(run("list", "ada", "--json", "--api-key", key)) == []  # a key that is given is used
    assert "API key" in run("remember", "ada", "tea", "--api-key", "mlk_garbage", code=1).stderr
    assert f"export MEMLANE_URL={_url(stack)}" in run("env").stdout
    assert document(run("env", "--json"))["MEMLANE_BROKER_URL"].startswith("redis://:")
    prefix = key.split("_")[1]
    assert prefix in run("keys", "list", "acme").stdout
    replaced = run("keys", "rotate", prefix, "--grace", "1h", "--json")
    assert document(replaced)["good_for_s"] == 3600
    assert f"key {prefix} is good until" in run("keys", "rotate", key).stderr  # a whole key names itself as well
    assert "good until" in run("keys", "list", "acme").stdout
    assert "no duration" in run("keys", "rotate", prefix, "--grace", "soon", code=2).stderr
    run("keys", "revoke", prefix)
    changed = document(
        run("update", "ada", hit["memory"]["id"], "--content", "black tea", "--no-tags", "--pin", "--json")
    )
    assert (changed["content"], changed["tags"], changed["pinned"]) == ("black tea", [], True)
    assert "green tea" in run("history", "ada", hit["memory"]["id"]).stdout
    assert "2 memories match" in run("forget", "ada", "--kind", "fact", "--not-pinned", "--dry-run").stdout
    assert document(run("forget", "ada", "--tag", "none", "--yes", "--json"))["matched"] == 0
    for command in ("revoke", "rotate"):
        assert "was revoked" in run("keys", command, prefix, code=1).stderr
        assert "there is no key with prefix 0123456789ab" in run("keys", command, "0123456789ab", code=1).stderr
    assert "expires_at" in run("keys", "list", "--json").stdout
    run("forget", "ada", hit["memory"]["id"])
    assert run("forget", "ada", "--yes").stdout.startswith("forgotten")
    assert run("list", "ada").stdout.strip() == "no memories"


def _url(folder: Folder) -> str:
    state = folder.state()
    assert state is not None
    return state.url


def test_data_survives_down_and_up(stack: Folder, run: Run) -> None:
    run("remember", "ada", "green tea", "--wait")
    before = processes(stack)
    run("down")
    eventually(lambda: gone(before), 5)
    assert run("down").stdout.startswith("no stack runs")
    assert "no stack runs" in run("list", "ada", code=1).stderr
    run("up", "--detach", "--port", "0")
    assert "green tea" in run("list", "ada").stdout
    assert document(run("recall", "ada", "tea", "--json"))["hits"]


def test_a_killed_supervisor_takes_all_with_it_and_starts_again(stack: Folder, run: Run) -> None:
    run("remember", "ada", "green tea", "--wait")
    before = processes(stack)
    assert len(before) > 10
    os.kill(before[0].pid, signal.SIGKILL)
    eventually(lambda: gone(before), 30)
    assert "no stack runs" in run("status", code=1).stderr
    run("up", "--detach", "--port", "0")
    assert "green tea" in run("list", "ada").stdout
    assert document(run("ledger", "--json"))["open"] == 0


def test_killed_processes_are_started_again(stack: Folder, run: Run) -> None:
    state = stack.state()
    assert state is not None
    victims = {process.name: process.pid for process in state.processes}
    assert set(victims) == {
        "node-1",
        "node-2",
        "redis",
        "gateway",
        "flower",
        "worker-ingest",
        "worker-upkeep",
        "worker-maintenance",
        "worker-sweep",
        "beat-1",
        "beat-2",
    }
    killed = ("worker-ingest", "gateway", "flower", "redis", "node-1")
    for name in killed:
        os.kill(victims[name], signal.SIGKILL)

    def back() -> bool:
        now = stack.state()
        assert now is not None
        return all(p.up and p.restarts >= 1 for p in now.processes if p.name in killed)

    eventually(back, 30)
    eventually(lambda: run("remember", "ada", "after it", "--wait", code=None).returncode == 0, 60)


def test_flower_is_shown_to_whoever_may_look(stack: Folder, run: Run) -> None:
    found = document(run("env", "--json"))
    assert found["MEMLANE_FLOWER_PASSWORD"] == stack.secrets().flower
    assert f"Flower at {found['MEMLANE_FLOWER_URL']}" in run("status").stdout
    assert f"Flower at {found['MEMLANE_FLOWER_URL']}" in run("status", **found).stdout
    who = (found["MEMLANE_FLOWER_USER"], found["MEMLANE_FLOWER_PASSWORD"])
    assert httpx.get(found["MEMLANE_FLOWER_URL"], auth=who).status_code == 200
    assert httpx.get(found["MEMLANE_FLOWER_URL"]).status_code == 401


def test_a_dead_flower_harms_nothing_else(run: Run, process_folder: Path) -> None:
    nowhere = {"MEMLANE_FLOWER_HOST": "203.0.113.1"}  # an address that nobody has
    run("up", "--detach", "--embedder", "hash", "--port", "0", "--workers", "1", **nowhere)
    try:
        folder = Folder(process_folder / "data")
        assert run("remember", "ada", "green tea", "--wait").stdout
        eventually(lambda: _restarts(folder)["flower"] >= 2, 30)
        assert {name for name, restarts in _restarts(folder).items() if restarts} == {"flower"}
        lines = (folder.logs / "flower.log").read_text().strip().splitlines()
        assert {line for line in lines if not line.startswith("memlane: Flower cannot listen on 203.0.113.1")} == set()
    finally:
        run("down")


def _restarts(folder: Folder) -> dict[str, int]:
    state = folder.state()
    assert state is not None
    return {process.name: process.restarts for process in state.processes}


def test_two_stacks_side_by_side(stack: Folder, run: Run, process_folder: Path) -> None:
    other = process_folder / "other"
    run("up", "--detach", "--embedder", "hash", "--port", "0", "--workers", "1", data=other)
    try:
        run("remember", "ada", "in the other", "--wait", data=other)
        run("remember", "ada", "in this one", "--wait")
        assert "in this one" not in run("list", "ada", data=other).stdout
        assert "in the other" not in run("list", "ada").stdout
    finally:
        run("down", data=other)
    assert stack.in_use()


def test_what_is_in_the_way_is_named(stack: Folder, run: Run, process_folder: Path) -> None:
    assert "already at http://" in run("up", "--detach", "--port", "0", code=1).stderr
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        done = run("up", "--detach", "--embedder", "hash", "--port", port, data=process_folder / "other", code=1)
        other = run("up", "--detach", "--port", "0", "--flower-port", port, data=process_folder / "third", code=1)
    assert f"port {port} is in use: choose another with --flower-port" in other.stderr
    assert f"port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr
    run("down")
    assert "fixed" in run("up", "--detach", "--shards", "16", code=1).stderr
    assert "fixed" in run("up", "--detach", "--nodes", "1", code=1).stderr
    assert "MEMLANE_EMBEDDER" in run("up", "--embedder", "nonsense", code=1).stderr
    assert stack.shape() is not None


def test_no_weights_is_one_clear_line(run: Run, process_folder: Path) -> None:
    empty = process_folder / "empty"
    empty.mkdir()
    done = run("up", "--detach", "--port", "0", code=1, MEMLANE_MINILM_DIR=str(empty))
    assert "memlane model fetch" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_another_model_gives_every_memory_a_new_vector(stack: Folder, run: Run, has_weights: bool) -> None:
    if not has_weights:
        pytest.skip("the weights of minilm are not installed: make setup")
    run("remember", "ada", "the kitten was sitting there", "--wait")
    run("down")
    run("up", "--detach", "--port", "0", "--embedder", "minilm")

    def similar() -> bool:
        hits = document(run("recall", "ada", "a cat sat", "--json"))["hits"]
        return bool(hits and hits[0]["parts"].get("vector", 0) > 0.4)

    eventually(similar, 40)
    run("down")
    run("up", "--detach", "--port", "0", "--embedder", "hash")
    assert document(run("recall", "ada", "kitten", "--json"))["hits"][0]["parts"]["vector"] > 0.2
    assert stack.in_use()


def test_secrets_are_for_our_eyes_only(stack: Folder) -> None:
    secrets = stack.secrets()
    for name in ("secrets.json", "state.json"):
        assert (stack.path / name).stat().st_mode & 0o077 == 0
    assert secrets.tenant_key not in (stack.path / "state.json").read_text()
    for log in stack.logs.iterdir():
        assert secrets.flower not in log.read_text(errors="replace"), log.name
    for process in processes(stack):
        arguments = " ".join(process.cmdline())
        for secret in asdict(secrets).values():
            assert secret not in arguments


def test_each_process_has_the_rights_of_its_role_and_no_others(stack: Folder, run: Run) -> None:
    (_, first) = (run("remember", "ada", "green tea", "--wait"), document(run("list", "ada", "--json"))[0])
    run("forget", "ada", first["id"])
    run("forget", "ada", "--yes")
    run("optimize", "ada")
    secrets, state = stack.secrets(), stack.state()
    assert state is not None
    wanted = {
        "memlane gateway": "memlane_gateway",
        "memlane ingest": "memlane_worker",
        "memlane maintenance": "memlane_worker",
        "memlane sweep": "memlane_worker",
        "memlane upkeep": "memlane",
    }

    def seen() -> dict[str, str]:
        found: dict[str, str] = {}
        for address in state.nodes.values():
            with psycopg.connect(f"postgresql://memlane:{secrets.postgres}@{address}/memlane") as connection:
                query = "SELECT application_name, usename FROM pg_stat_activity WHERE application_name LIKE 'memlane %'"
                found |= dict(connection.execute(query).fetchall())
        return found

    eventually(lambda: seen() == wanted, 30)
    for process in state.processes:
        if process.name.startswith(("gateway", "worker", "beat")) and process.name != "worker-upkeep":
            assert secrets.postgres not in str(psutil.Process(process.pid).environ()), process.name
    for log in stack.logs.iterdir():
        text = log.read_text(errors="replace")
        for secret in (secrets.postgres_gateway, secrets.postgres_worker, "SCRAM-SHA-256"):
            assert secret not in text, log.name
    address = next(iter(state.nodes.values()))
    with (
        psycopg.connect(
            f"postgresql://memlane_gateway:{secrets.postgres_gateway}@{address}/memlane", autocommit=True
        ) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TEMPORARY TABLE t (a int)")


def test_a_folder_of_an_older_version_gets_the_secrets_that_it_lacks(process_folder: Path) -> None:
    folder = Folder(process_folder / "data")
    folder.prepare()
    older = {"postgres": "p", "redis": "r", "tenant_key": "t", "admin_key": "a"}
    (folder.path / "secrets.json").write_text(json.dumps(older))
    made = asdict(folder.secrets())
    assert {name: made[name] for name in older} == older
    assert len(set(made.values())) == len(made)
    assert asdict(folder.secrets()) == made


def test_up_in_the_foreground_stops_with_ctrl_c(process_folder: Path) -> None:
    """On a terminal, as a person would: logs are shown, Ctrl-C stops everything."""
    controller, terminal = pty.openpty()
    env = {**os.environ, "HOME": str(process_folder / "home"), "MEMLANE_DATA": str(process_folder / "data")}
    process = subprocess.Popen(
        [*MEMLANE, "up", "--embedder", "hash", "--port", "0", "--workers", "1"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=env,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509  # one system call
    )
    os.close(terminal)
    seen = _read_until(controller, "Ctrl-C stops everything")
    assert re.search(r"gateway +http://127", seen)
    folder = Folder(process_folder / "data")
    found = processes(folder)
    os.write(controller, b"\x03")
    seen = _read_until(controller, "stopped")
    assert process.wait(60) == 0
    eventually(lambda: gone(found), 5)
    os.close(controller)


def _take_terminal() -> None:
    """Standard input becomes the controlling terminal, so that Ctrl-C reaches us."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(descriptor: int, text: str) -> str:
    seen = ""
    deadline = monotonic() + 60
    while text not in seen:
        assert monotonic() < deadline, seen
        try:
            seen += os.read(descriptor, 65536).decode(errors="replace")
        except OSError:
            sleep(0.05)
    return seen


def test_demo_without_a_terminal_ends_by_itself(run: Run, process_folder: Path) -> None:
    done = run("demo", "--embedder", "hash", "--port", "0")
    assert "149 memories taken in" in done.stdout
    assert done.stdout.count("? ") >= 4
    assert "balanced" in done.stdout
    assert "gateway   http://127.0.0.1:" in done.stdout
    assert not Folder(process_folder / "data").in_use()
    again = run("demo", "--port", "0")
    assert "0 memories taken in, 149 were there already" in again.stdout
    bad = process_folder / "bad.json"
    bad.write_text("[1]")
    assert "LoCoMo" in run("demo", str(bad), code=2).stderr


def test_content_is_only_where_it_may_be(stack: Folder, run: Run) -> None:
    """A canary in the content, given through the gateway, is in no Redis key and no log, Postgres' too."""
    canary = "kanarienvogel-7f3a"
    state = stack.state()
    assert state is not None
    with Client(state.url, stack.secrets().tenant_key) as client:
        client.remember("ada", f"the {canary} sings", key="k", speaker="Ada", metadata={"note": canary}).wait(
            "searchable"
        )
        client.recall("ada", f"where is the {canary}?")
        client.embed([f"a {canary} ahead"])
        for bad in ({"key": "k"}, {"importance": 7.0}, {"tags": [canary * 9]}):
            with pytest.raises(Exception, match=r".*"):
                client.remember("ada", f"another {canary}", **bad)
        client.remember_many(
            [{"agent": "ada", "content": canary, "surprise": canary}, {"agent": "ada", "content": "good"}]
        )
        memory = next(iter(client.memories("ada")))
        client.forget("ada", memory.id)
        client.optimize("ada")
    run("recall", "ada", canary)
    run("ledger")
    eventually(lambda: document(run("status", "--json"))["jobs"] == [], 20)
    port = int(state.redis.rpartition(":")[2])
    for database in (0, 1):
        with redis.Redis(port=port, db=database, password=stack.secrets().redis) as server:
            for name in server.scan_iter():
                dumped = name + (server.dump(name) or b"")
                assert canary.encode() not in dumped
    logs = list(stack.logs.iterdir())
    assert len(logs) >= 9
    for log in logs:
        assert canary not in log.read_text(errors="replace"), log.name


def test_bench_prints_its_circumstances(stack: Folder, run: Run) -> None:
    found = document(run("bench", "ingest", "--memories", "300", "--batch", "50", "--json"))
    assert found["searchable_per_s"] > 0
    assert found["searchable_ms"]["p50"] > 0
    assert found["circumstances"]["durability"] == {
        "node-1 fsync": "on",
        "node-1 full_page_writes": "on",
        "node-1 synchronous_commit": "on",
        "node-2 fsync": "on",
        "node-2 full_page_writes": "on",
        "node-2 synchronous_commit": "on",
        "redis appendonly": "yes",
        "redis appendfsync": "always",
        "redis maxmemory-policy": "noeviction",
    }
    found = document(run("bench", "recall", "--sizes", "20,50", "--queries", "5", "--json"))
    assert [size["memories"] for size in found["sizes"]] == [20, 50]
    assert stack.in_use()


def test_migrate_and_a_gateway_that_cannot_start(process_folder: Path, run: Run) -> None:
    assert "MEMLANE_NODES" in run("migrate", code=1).stderr
    nodes = json.dumps({"a": f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x"})
    done = run("migrate", code=1, MEMLANE_NODES=nodes)
    assert "does not answer" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert process_folder.exists()


def test_export_and_import(stack: Folder, run: Run, process_folder: Path) -> None:
    run("remember", "ada", "she lives in Porto", "--key", "home", "--importance", "0", "--wait")
    older = document(run("list", "ada", "--json"))[0]["id"]
    run(
        "remember",
        "ada",
        "she lives in Lisbon",
        "--supersedes",
        older,
        "--tag",
        "t",
        "--metadata",
        '{"a": [1]}',
        "--pin",
    )
    run("remember", "ada", "she plays chess", "--speaker", "Ben", "--expires-at", "2100-01-01", "--wait")
    text = run("export", "ada", "--vectors").stdout
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["content"].split()[-1] for line in lines] == ["Porto", "Lisbon", "chess"]
    assert all(line["embedding"]["model"] == "hash" for line in lines)
    assert "embedding" not in run("export", "ada").stdout
    file = process_folder / "ada.jsonl"
    file.write_text(text)
    assert "0 accepted, 3 there already" in run("import", str(file)).stdout
    run("tenants", "create", "acme")
    key = document(run("keys", "create", "acme", "--json"))["key"]
    assert "3 accepted" in run("import", str(file), "--agent", "bob", "--api-key", key).stdout
    copy = [json.loads(line) for line in run("export", "bob", "--vectors", "--api-key", key).stdout.splitlines()]
    assert copy[1]["supersedes"] == copy[0]["id"] != older
    for before, after in zip(lines, copy, strict=True):
        for line in (before, after):
            for name in ("id", "agent", "supersedes"):
                line.pop(name, None)
    assert copy == lines
    assert "she lives in Porto" not in run("list", "bob", "--api-key", key).stdout
    run("forget", "ada", "--yes")
    assert "3 were forgotten here before" in run("import", str(file)).stdout
    assert stack.in_use()


@pytest.mark.usefixtures("stack")
def test_backup_and_restore_into_another_stack(run: Run, process_folder: Path) -> None:
    run("remember", "ada", "green tea", "--key", "k", "--wait")
    kept = process_folder / "backup"
    made = document(run("backup", str(kept), "--json"))
    assert made["shard_count"] == 8
    assert "not empty" in run("backup", str(kept), code=1).stderr
    other = process_folder / "other"
    assert "it is no backup" in run("restore", str(process_folder), data=other, code=1).stderr
    assert "1 memories restored" in run("restore", str(kept), "--nodes", "1", data=other).stdout
    assert "has a stack already" in run("restore", str(kept), data=other, code=1).stderr
    assert "is not empty" in run("restore", str(kept), data=kept, code=1).stderr
    broken = process_folder / "broken"
    broken.mkdir()
    (broken / "half-made").touch()  # what a restore that was killed has left
    assert "broke off" in run("up", "--detach", "--port", "0", data=broken, code=1).stderr
    assert "4 were asked for" in run("restore", str(kept), data=broken / "x", code=1, MEMLANE_SHARD_COUNT="4").stderr
    run("up", "--detach", "--port", "0", data=other)
    try:
        assert "green tea" in run("list", "ada", data=other).stdout
        assert document(run("recall", "ada", "tea", "--json", data=other))["hits"][0]["parts"]["vector"] is not None
        assert document(run("remember", "ada", "green tea", "--key", "k", "--json", data=other))["state"] == "duplicate"
        assert {node["name"] for node in document(run("status", "--json", data=other))["nodes"]} == {"node-1"}
    finally:
        run("down", data=other)
