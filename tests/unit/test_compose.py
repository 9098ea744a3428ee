"""docker-compose.yml and Dockerfile name what exists: commands, queues, variables, ports, secrets, files."""

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

import pytest
import typer.main
import yaml
from celery.bin.celery import celery as celery_command

from memlane.cli.app import app as memlane_app
from memlane.config.celery import WORKER_CLASSES, QueueName, queue_of
from memlane.config.settings import Settings, WorkerClassName, load_settings
from memlane.embedded.group import CONFIRMING, STANDBY_SETTINGS
from memlane.storage.tenants import prefix_of
from memlane.workers.app import make_app
from memlane.workers.lifecycle import Lifecycle
from tests import compose
from tests.compose import ROOT, Service
from tests.servers import names_of

MakeSettingsOf = Callable[[Service], Settings]

COMPOSE = compose.read()
NODES = {node: names_of(node) for node in ("node-1", "node-2")}
MONITORING = ("prometheus", "grafana")
OTHERS = {"SENTRY_DSN"}
"""Settings that are not called MEMLANE_<FIELD>."""

ours = pytest.mark.parametrize("service", COMPOSE.ours, ids=lambda service: service.name)
everyone = pytest.mark.parametrize("service", COMPOSE.services.values(), ids=lambda service: service.name)
begun = pytest.mark.parametrize(
    "service",
    [s for s in COMPOSE.services.values() if s.name != "migrate" and not s.asked_for],
    ids=lambda service: service.name,
)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    compose.make_secrets(folder)
    return folder


def is_setting(variable: str) -> bool:
    name = variable.removeprefix("MEMLANE_").lower()
    return variable in OTHERS or (variable.startswith("MEMLANE_") and name in Settings.model_fields)


@pytest.fixture
def settings_of(secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettingsOf:
    """Makes the settings of a service as its process would read them."""

    def make(service: Service) -> Settings:
        for target, source in service.secrets.items():
            (tmp_path / target).write_bytes((secrets / source).read_bytes())
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MEMLANE_SECRETS_DIR", str(tmp_path))
        return load_settings()

    return make


def test_variables_are_filled_in_as_compose_does() -> None:
    assert compose.resolve("${A:-x} ${B:-y} $$C ${D-z}", {"A": "1", "B": "", "D": ""}) == "1 y $C "
    with pytest.raises(KeyError):
        compose.resolve("${A:?must be set}", {})


def test_nothing_has_to_be_set_but_the_secrets() -> None:
    assert {s.name for s in COMPOSE.ours} >= {"migrate", "gateway", "admin", "beat", "flower"}
    assert {name for name in COMPOSE.services if name.startswith("node-")} == {*NODES["node-1"], *NODES["node-2"]}
    assert COMPOSE.services["beat"].replicas == 2


@ours
def test_commands_exist(service: Service) -> None:
    program, *rest = service.command
    if program == "python":
        assert rest[0] == "-m"
        assert find_spec(rest[1]) is not None
    elif program == "celery":
        context = celery_command.make_context("celery", list(rest), resilient_parsing=True)
        assert context.params["app"] == "memlane.workers.main"
        assert find_spec("memlane.workers.main") is not None
        name = next(part for part in rest if part in ("worker", "beat"))
        command = celery_command.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {part for part in rest[rest.index(name) :] if part.startswith("-")} <= known
    else:
        assert program == "memlane"
        command = typer.main.get_command(memlane_app).commands[rest[0]]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {part for part in rest if part.startswith("--")} <= known


def test_the_command_line_reaches_the_operators_door() -> None:
    cli, admin = COMPOSE.services["cli"], COMPOSE.services["admin"]
    assert cli.environment == {"MEMLANE_URL": f"http://admin:{admin.environment['MEMLANE_PORT']}"}
    assert set(cli.raw["networks"]) <= set(admin.raw["networks"])
    assert cli.command[0] in typer.main.get_command(memlane_app).commands  # type: ignore[attr-defined]
    assert "/run/secrets/admin_key" in cli.raw["entrypoint"][2]
    assert set(cli.secrets) == {"admin_key"}


def test_a_backup_is_made_by_the_owner_of_the_schemas() -> None:
    backup, migrate = COMPOSE.services["backup"], COMPOSE.services["migrate"]
    assert {**backup.secrets, "admin_key": "admin_key"} == dict(migrate.secrets)
    assert backup.command[1] in typer.main.get_command(memlane_app).commands  # type: ignore[attr-defined]
    assert backup.raw["volumes"] == ["./backups:/backups"]
    assert backup.command[2].startswith("/backups/")


def test_workers_of_each_class_consume_its_queues() -> None:
    consumed = []
    for service in COMPOSE.ours:
        if "worker" not in service.command:
            continue
        worker_class = WORKER_CLASSES[WorkerClassName(service.environment["MEMLANE_WORKER_CLASS"])]
        queues = service.command[service.command.index("--queues") + 1].split(",")
        assert set(queues) == set(worker_class.queues)
        consumed += queues
    assert sorted(consumed) == sorted(QueueName)


@ours
def test_variables_and_secrets_are_settings(service: Service) -> None:
    assert [name for name in service.environment if not is_setting(name)] == []
    named = [name for name in service.secrets if name.startswith("memlane_")]
    assert [name for name in named if not is_setting(name.upper())] == []
    assert {name for name in service.secrets if name not in named} <= (
        {"admin_key"} if service.name == "migrate" else set()
    )


def test_who_embeds_has_the_providers_key() -> None:
    """Gateways embed questions, maintenance what is asked again and again; the sweep counts tokens."""
    have = {service.name for service in COMPOSE.ours if "memlane_openai_api_key" in service.secrets}
    assert have == {"gateway", "admin", "worker-ingest", "worker-sweep", "worker-maintenance"}


@ours
def test_settings_hold_together(service: Service, settings_of: MakeSettingsOf) -> None:
    settings = settings_of(service)
    assert settings.profile == "production"
    assert service.stop_grace_s > settings.stop_grace_s
    needs_nodes = service.name not in ("beat", "flower")
    assert set(settings.nodes) == ({"node-1", "node-2"} if needs_nodes else set())
    role = {"migrate": "migrator", "worker-upkeep": "migrator", "gateway": "gateway", "admin": "gateway"}
    for uri in settings.nodes.values():
        assert uri.get_secret_value().startswith(f"postgresql://memlane_{role.get(service.name, 'worker')}:")
    if service.name == "flower":
        assert settings.flower_password.get_secret_value()
    for _, _, inside in service.ports:
        assert inside == (settings.flower_port if service.name == "flower" else settings.port)
        listens = settings.flower_host if service.name == "flower" else settings.host
        assert ip_address(listens).is_unspecified
        assert f":{inside}/" in " ".join(service.check)


def test_the_operators_doors_are_open_on_this_machine_only() -> None:
    published = {service.name: service.ports for service in COMPOSE.services.values() if service.ports}
    assert published == {
        "gateway": [("0.0.0.0", 8777, 8777)],  # noqa: S104
        "admin": [("127.0.0.1", 8778, 8778)],
        "flower": [("127.0.0.1", 5555, 5555)],
        "prometheus": [("127.0.0.1", 9090, 9090)],
        "grafana": [("127.0.0.1", 3000, 3000)],
    }
    assert COMPOSE.services["gateway"].environment["MEMLANE_SERVES"] == "tenants"
    assert COMPOSE.services["admin"].environment["MEMLANE_SERVES"] == "admin"


@everyone
def test_everyone_has_bounds(service: Service) -> None:
    assert service.raw["mem_limit"]
    assert service.raw["logging"] == {"driver": "local"}
    assert service.raw["cpus"] > 0
    assert service.stop_grace_s >= 10
    expected = {"migrate": "on-failure:3", "cli": "no", "backup": "no"}
    assert service.raw["restart"] == expected.get(service.name, "unless-stopped")
    seen = service.name in MONITORING
    assert ("outside" in service.raw["networks"]) == (seen or (service.ours and not service.asked_for))
    assert ("data" in service.raw["networks"]) == (not seen), "who only watches reaches no server"
    if service.ours or seen:
        assert service.raw["read_only"]
        assert service.raw["cap_drop"] == ["ALL"]


@everyone
def test_what_is_waited_for_is_there(service: Service) -> None:
    for name, condition in service.depends_on.items():
        waited_for = COMPOSE.services[name]
        if condition == "service_healthy":
            assert waited_for.check
        elif condition == "service_started":
            assert name in {standby for _, *standbys in NODES.values() for standby in standbys}
        else:
            assert (condition, name) == ("service_completed_successfully", "migrate")
    if any(name in NODES for name in service.depends_on):
        assert {name for names in NODES.values() for name in names} <= set(service.depends_on)


@begun
def test_everyone_is_looked_after_and_no_worker_asks_the_broker(service: Service) -> None:
    check = service.raw["healthcheck"]
    assert check["interval"]
    assert check["timeout"]
    assert compose.seconds(check["start_period"]) >= 30
    if service.command[0] == "celery":
        assert list(service.check) == ["test", "-f", service.environment["MEMLANE_READY_FILE"]]
        assert "/tmp" in service.raw["tmpfs"]  # noqa: S108


def test_who_tells_knows_the_channels() -> None:
    queue = queue_of("beat.tell")
    tell = {s.name for s in COMPOSE.ours if queue in s.command or s.command[-1] == "memlane.gateway"}
    assert tell == {s.name for s in COMPOSE.ours if "memlane_alert_urls" in s.secrets}
    assert {"gateway", "admin", "worker-maintenance"} == tell


def test_secrets_and_volumes_are_declared_and_made(secrets: Path) -> None:
    declared = COMPOSE.raw["secrets"]
    used = {source for service in COMPOSE.services.values() for source in service.secrets.values()}
    assert used == set(declared)
    assert {Path(one["file"]).name for one in declared.values()} == {path.name for path in secrets.iterdir()}
    assert all(one["file"] == f"./secrets/{name}" for name, one in declared.items())
    mounted = [str(volume).split(":") for s in COMPOSE.services.values() for volume in s.raw.get("volumes", [])]
    assert {source for source, *_ in mounted if "/" not in source} == set(COMPOSE.raw["volumes"])
    assert [source for source, *_ in mounted if "/" in source and not (ROOT / source).exists()] == ["./backups"]
    assert {network for s in COMPOSE.services.values() for network in s.raw["networks"]} == set(COMPOSE.raw["networks"])
    assert COMPOSE.raw["networks"]["data"]["internal"]


def test_servers_keep_what_they_are_given() -> None:
    for name in (name for names in NODES.values() for name in names):
        node = COMPOSE.services[name]
        assert {"-cfsync=on", "-cfull_page_writes=on", "-csynchronous_commit=on"} <= set(node.command)
        assert {"-clog_error_verbosity=terse", "-clog_min_error_statement=panic"} <= set(node.command)
        assert f"{name}:/var/lib/postgresql" in node.raw["volumes"]
        version, postgres = re.fullmatch(r"pgvector/pgvector:([\d.]+)-pg(\d+)", node.raw["image"]).groups()  # type: ignore[union-attr]
        assert tuple(map(int, version.split("."))) >= (0, 8, 7)
        assert int(postgres) >= 18
    broker, cache = (options(COMPOSE.services[name]) for name in ("broker", "cache"))
    assert (broker["--appendonly"], broker["--appendfsync"], broker["--maxmemory-policy"]) == (
        "yes",
        "always",
        "noeviction",
    )
    assert "broker:/data" in COMPOSE.services["broker"].raw["volumes"]
    assert (cache["--appendonly"], cache["--maxmemory-policy"]) == ("no", "allkeys-lru")


@pytest.mark.parametrize("node", NODES)
def test_the_servers_of_a_node_know_each_other(node: str) -> None:
    names, volumes = NODES[node], set()
    for name in names:
        server = COMPOSE.services[name]
        told = server.environment
        assert (told["SERVER"], told["SERVERS"].split()) == (name, names)
        assert told["OTHERS"].split(",") == [f"{other}:5432" for other in names if other != name]
        assert told["STANDBYS_CONFIRM"] == str(CONFIRMING)
        assert server.command == COMPOSE.services[node].command  # a standby may have no less than its primary
        assert {f"-c{name}={value.strip(chr(39))}" for name, value in STANDBY_SETTINGS.items()} <= set(server.command)
        assert server.raw["entrypoint"] == ["/memlane/server.sh"]
        split = [str(volume).split(":") for volume in server.raw["volumes"]]
        mounted = {target: source for source, target, *_ in split}
        volumes.add(mounted["/var/lib/lineup"])
        assert told["LINEUP"] == "/var/lib/lineup"
        assert mounted["/memlane"] == "./config/postgres"
        scripts = [source for target, source in mounted.items() if target.startswith("/docker-entrypoint-initdb.d/")]
        assert all((ROOT / script).stat().st_mode & 0o111 for script in (*scripts, "config/postgres/server.sh"))
        assert "postgres_standby" in server.secrets
    assert volumes == {f"{node}-lineup"}


def test_who_watches_is_asked_for_and_asks_what_is_there() -> None:
    prometheus, grafana = (COMPOSE.services[name] for name in MONITORING)
    for service in (prometheus, grafana):
        assert service.raw["profiles"] == ["monitoring"]
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service.raw["image"])
        (state,) = [volume for volume in service.raw["volumes"] if not volume.startswith("./")]
        assert state.split(":")[0] in COMPOSE.raw["volumes"]
        assert all(volume.endswith(":ro") for volume in service.raw["volumes"] if volume.startswith("./"))
    asked = yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text())
    (job,) = asked["scrape_configs"]
    (targets,) = job["static_configs"]
    doors = [COMPOSE.services[name] for name in ("gateway", "admin")]
    assert targets["targets"] == [f"{door.name}:{door.environment['MEMLANE_PORT']}" for door in doors]
    assert all(set(prometheus.raw["networks"]) <= set(door.raw["networks"]) for door in doors)
    assert all((ROOT / "config" / "prometheus" / rules).exists() for rules in asked["rule_files"])
    ((_, _, port),) = prometheus.ports
    provisioned = ROOT / "config" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "memlane.yml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{port}"
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "memlane.yml").read_text())["providers"]
    assert f"./config/grafana/dashboards:{provider['options']['path']}:ro" in grafana.raw["volumes"]


def test_grafana_has_no_password_that_is_known() -> None:
    grafana = COMPOSE.services["grafana"]
    assert grafana.environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_password"
    assert set(grafana.secrets) == {"grafana_password"}
    assert grafana.environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana.environment["GF_USERS_ALLOW_SIGN_UP"] == "false"


def options(service: Service) -> dict[str, str]:
    return dict(zip(service.command[1::2], service.command[2::2], strict=True))


def test_secrets_are_made_once_and_for_their_maker_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    compose.make_secrets(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    (folder / "flower_password").unlink()
    compose.make_secrets(folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"flower_password"}
    (folder / "nodes_worker").unlink()  # as an upgrade has it made anew, with the password that there is
    compose.make_secrets(folder)
    assert (folder / "nodes_worker").read_bytes() == before["nodes_worker"]
    random = [name for name in before if name.startswith(("postgres_", "redis_", "flower_", "grafana_"))]
    assert len({before[name] for name in random}) == len(random)
    assert prefix_of((folder / "admin_key").read_text().strip())
    for name in ("nodes_gateway", "nodes_worker", "nodes_migrator"):
        password = (folder / name.replace("nodes", "postgres")).read_text().strip()
        for node, uri in json.loads((folder / name).read_text()).items():
            hosts = ",".join(f"{server}:5432" for server in NODES[node])
            assert uri == f"postgresql://memlane_{name.removeprefix('nodes_')}:{password}@{hosts}/memlane"
    for server in ("broker", "cache"):
        password = (folder / f"redis_{server}").read_text().split()[1]
        assert (folder / f"{server}_url").read_text().strip() == f"redis://:{password}@{server}:6379/0"


def test_no_secret_gets_into_the_repository_or_the_image() -> None:
    for file in (".gitignore", ".dockerignore"):
        lines = {line.strip("/\n ") for line in (ROOT / file).read_text().splitlines()}
        assert {"secrets", ".env"} <= lines


def test_the_example_names_what_exists() -> None:
    text = (ROOT / ".env.example").read_text()
    named = re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE)
    used = set(re.findall(r"\$\{(\w+)", compose.FILE.read_text()))
    assert used <= set(named)
    assert [name for name in named if name not in used and not is_setting(name)] == []


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody() -> None:
    lines = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    copied = [
        words for step, rest in steps if step == "COPY" and not rest.startswith("--from") for words in rest.split()[:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    (user,) = [rest for step, rest in steps if step == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert f"--uid {user.split(':')[0]} " in " ".join(lines)
    (command,) = [rest for step, rest in steps if step == "CMD"]
    assert json.loads(command) == list(COMPOSE.services["gateway"].command)
    assert sum(step == "FROM" for step, _ in steps) == 2
    assert all("--require-hashes" in part for part in re.findall(r"pip install [^&]*\.lock", " ".join(lines)))


@pytest.mark.parametrize("name", ["requirements-server.lock", "requirements-build.lock"])
def test_the_image_has_what_was_tested(name: str) -> None:
    def pinned(file: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[^\s;\\]+)", (ROOT / file).read_text(), re.MULTILINE))

    assert pinned(name)
    assert pinned(name) <= pinned("requirements.lock")
    assert "http" not in re.sub(
        r"^(aiohttp|httpx|httpcore|httptools|h11)\S*", "", (ROOT / name).read_text(), flags=re.MULTILINE
    )


@pytest.mark.parametrize(("warm", "fails"), [(True, True), (False, False)])
def test_a_worker_that_is_to_embed_what_is_asked_again_says_when_it_cannot(warm: bool, fails: bool) -> None:
    settings = load_settings(
        worker_class="maintenance",
        embedder="openai",
        warm_cache=warm,
        nodes={"node-1": "postgresql://db.example/memlane"},
    )
    life = Lifecycle(make_app(settings), settings)
    with pytest.raises(SystemExit, match="MEMLANE_OPENAI_API_KEY") if fails else nullcontext():
        life._check()
