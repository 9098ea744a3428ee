"""The settings are checked as a whole, and say what is wrong without saying what it was."""

from pathlib import Path

import pytest

from memlane.config.celery import WORKER_CLASSES, QueueName, celery_config
from memlane.config.settings import Settings, WorkerClassName, load_settings
from memlane.errors import Misconfigured


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLANE_NODES", '{"a": "postgresql://h/a", "b": "postgresql://h/b"}')
    monkeypatch.setenv("MEMLANE_LEASE_S", "45")
    settings = load_settings()
    assert settings.control == "a"
    assert settings.lease_s == 45
    assert "postgresql" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"lease_s": -1}, "MEMLANE_LEASE_S"),
        ({"control_node": "x"}, "control_node"),
        ({"statement_timeout_s": 31}, "statement_timeout_s"),
        ({"profile": "production"}, "MEMLANE_BROKER_URL, MEMLANE_NODES"),
        ({"profile": "production", "nodes": {}}, "needs MEMLANE_BROKER_URL"),
        ({"text_search": "english'; drop"}, "MEMLANE_TEXT_SEARCH"),
        ({"embedder": "word2vec"}, "MEMLANE_EMBEDDER"),
        ({"provider_rpm": 0}, "MEMLANE_PROVIDER_RPM"),
        ({"provider_tpm": -1}, "MEMLANE_PROVIDER_TPM"),
        ({"provider_concurrency": 0}, "MEMLANE_PROVIDER_CONCURRENCY"),
        ({"provider_share": 0}, "MEMLANE_PROVIDER_SHARE"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        load_settings(**given)


def test_nodes_that_are_not_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLANE_NODES", "postgresql://user:hunter2@h/a")
    with pytest.raises(Misconfigured, match="MEMLANE_NODES") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_secrets_come_from_files_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLANE_SECRETS_DIR", str(tmp_path))
    (tmp_path / "memlane_nodes").write_text('{"a": "postgresql://u:hunter2@h/a"}\n')
    (tmp_path / "memlane_broker_url").write_text("redis://:hunter3@h/0\n")
    (tmp_path / "memlane_flower_password").write_text("hunter4\n")
    (tmp_path / "something_else").write_text("of another program")
    monkeypatch.setenv("MEMLANE_FLOWER_PASSWORD", "from the environment")
    settings = load_settings(profile="production")
    assert settings.nodes["a"].get_secret_value() == "postgresql://u:hunter2@h/a"
    assert settings.broker_url.get_secret_value() == "redis://:hunter3@h/0"
    assert settings.flower_password.get_secret_value() == "from the environment"
    assert "hunter" not in repr(settings)
    (tmp_path / "memlane_broker_url").unlink()
    with pytest.raises(Misconfigured, match="needs MEMLANE_BROKER_URL,"):
        load_settings(profile="production")


def test_secrets_that_cannot_be_read_are_named_without_their_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMLANE_SECRETS_DIR", str(tmp_path))
    (tmp_path / "memlane_nodes").write_text("postgresql://u:hunter2@h/a")
    with pytest.raises(Misconfigured, match="MEMLANE_NODES is not JSON") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("MEMLANE_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Misconfigured, match="MEMLANE_SECRETS_DIR"):
        load_settings()


def test_production_refuses_the_tests_embedder() -> None:
    with pytest.raises(Misconfigured, match="hash"):
        load_settings(profile="production", nodes={"a": "postgresql://h"}, broker_url="redis://h", embedder="hash")


def test_no_node_is_a_clear_error() -> None:
    with pytest.raises(Misconfigured, match="MEMLANE_NODES"):
        _ = load_settings().control


def test_marks_need_a_redis() -> None:
    assert load_settings(broker_url="redis://h/0").marks_url == "redis://h/0"
    assert load_settings(broker_url="amqp://h").marks_url is None
    assert load_settings(broker_url="amqp://h", redis_url="redis://r").marks_url == "redis://r"


@pytest.mark.parametrize("name", list(WorkerClassName))
@pytest.mark.parametrize("url", ["redis://h/0", "amqp://h//"])
def test_celery_keeps_what_it_takes(name: WorkerClassName, url: str) -> None:
    config = celery_config(Settings(worker_class=name, broker_url=url))
    assert config["task_acks_late"]
    assert config["task_reject_on_worker_lost"]
    assert config["worker_prefetch_multiplier"] == 1
    assert config["task_ignore_result"]
    assert not config["task_create_missing_queues"]
    assert {queue.name for queue in config["task_queues"]} == {name.value for name in QueueName}
    assert all(queue.exchange.type == "direct" for queue in config["task_queues"])
    options = config["broker_transport_options"]
    if url.startswith("amqp"):
        assert options["confirm_publish"]
        assert all(queue.queue_arguments["x-queue-type"] == "quorum" for queue in config["task_queues"])
    else:
        assert config["task_time_limit"] < options["visibility_timeout"]
        assert "retry_on_timeout" not in options


def test_worker_classes_share_no_queue_and_no_keys() -> None:
    consumed = [queue for worker_class in WORKER_CLASSES.values() for queue in worker_class.queues]
    assert sorted(consumed) == sorted(QueueName)
    keys = {
        celery_config(Settings(worker_class=name))["broker_transport_options"]["unacked_key"]
        for name in WorkerClassName
    }
    assert len(keys) == len(WorkerClassName)
