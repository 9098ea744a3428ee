"""Celery's configuration: queues, worker classes, and every setting that keeps a message from being lost.

A message of ours is a wake-up that carries a shard's number. Losing or doubling it is harmless, since
the jobs live in Postgres and the sweep wakes a shard that nobody works on. The settings below keep
that rare. Only direct queues are used, addressed by name: kombu then publishes and restores without
looking a binding up in Redis, where a missing binding drops the message without an error.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from typing import Any

from kombu.entity import Queue

from memlane.config.addresses import with_verification
from memlane.config.settings import Settings, WorkerClassName


class QueueName(StrEnum):
    """The queues."""

    MEMORY = "memory"
    """Producers' tasks, which carry content."""
    REMEMBER = "remember"
    EMBED = "embed"
    OPTIMIZE = "optimize"
    """Statistics and index builds, which may take long."""
    MAINTENANCE = "maintenance"
    """Removal of what was forgotten or has expired, and what is told to channels: must not wait for an index build."""
    SWEEP = "sweep"
    """Apart, so that a backlog elsewhere cannot keep lost work from being found."""


@dataclass(frozen=True)
class WorkerClass:
    """A kind of worker process: what it consumes and how long a task may take there.

    The visibility timeout, after which Redis' transport hands a message out again, has to be longer
    than the time limit, or a running task would be started a second time.
    """

    name: WorkerClassName
    queues: tuple[QueueName, ...]
    time_limit_s: int
    visibility_s: int


WORKER_CLASSES = {
    c.name: c
    for c in (
        WorkerClass(WorkerClassName.INGEST, (QueueName.MEMORY, QueueName.REMEMBER, QueueName.EMBED), 120, 300),
        WorkerClass(WorkerClassName.UPKEEP, (QueueName.OPTIMIZE,), 3600, 7200),
        WorkerClass(WorkerClassName.MAINTENANCE, (QueueName.MAINTENANCE,), 3600, 7200),
        WorkerClass(WorkerClassName.SWEEP, (QueueName.SWEEP,), 60, 120),
    )
}

ROUTES = {
    "memory.*": {"queue": QueueName.MEMORY.value},
    "drain.remember": {"queue": QueueName.REMEMBER.value},
    "drain.embed": {"queue": QueueName.EMBED.value},
    "drain.optimize": {"queue": QueueName.OPTIMIZE.value},
    "drain.forget": {"queue": QueueName.MAINTENANCE.value},
    "beat.sweep": {"queue": QueueName.SWEEP.value},
    "beat.health": {"queue": QueueName.SWEEP.value},
    "beat.tell": {"queue": QueueName.MAINTENANCE.value},
    "beat.expire": {"queue": QueueName.MAINTENANCE.value},
    "beat.budgets": {"queue": QueueName.MAINTENANCE.value},
    "beat.query_patterns": {"queue": QueueName.MAINTENANCE.value},
    "beat.warm_cache": {"queue": QueueName.MAINTENANCE.value},
    "beat.moments": {"queue": QueueName.MAINTENANCE.value},
    "beat.tune": {"queue": QueueName.MAINTENANCE.value},
    "beat.*": {"queue": QueueName.OPTIMIZE.value},
}


def queue_of(task: str) -> str:
    """The name of the queue that a task's messages go to."""
    return next(route["queue"] for pattern, route in ROUTES.items() if fnmatch(task, pattern))


def celery_config(settings: Settings) -> dict[str, Any]:
    """The settings of one Celery app; those of the worker class matter for consumers only."""
    worker_class = WORKER_CLASSES[settings.worker_class]
    url = with_verification(settings.broker_url.get_secret_value())
    amqp = url.startswith(("amqp://", "amqps://", "pyamqp://"))
    return {
        "broker_url": url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_connection_timeout": 5,
        "broker_transport_options": _rabbitmq() if amqp else _redis(worker_class),
        "task_queues": [_queue(name, amqp) for name in QueueName],
        "task_default_queue": QueueName.MEMORY.value,
        "task_create_missing_queues": False,
        "task_routes": ROUTES,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_time_limit": worker_class.time_limit_s,
        "task_soft_time_limit": worker_class.time_limit_s * 3 // 4,
        "worker_prefetch_multiplier": 1,
        # A drain that goes on while the broker is away does no harm: its lease and fence see to that. One
        # that was cancelled would count as a death of its jobs.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_consumer": "memlane.workers.consumer:Consumer",
        "worker_proc_alive_timeout": 60,
        "worker_max_tasks_per_child": 10_000,
        "worker_max_memory_per_child": settings.child_memory_mb * 1024,  # workers/throttle.py measures it
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Three small messages for each drain, which is hundreds of memories: what Flower shows. Nobody keeps them.
        "worker_send_task_events": True,
        "timezone": "UTC",
        "beat_max_loop_interval": 1,
        "beat_scheduler": "celery.beat:Scheduler",
    }


def _queue(name: QueueName, amqp: bool) -> Queue:
    # RabbitMQ 4 drops what was put back 20 times, unless told otherwise; we put back what nobody can take yet.
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000} if amqp else None
    return Queue(name.value, routing_key=name.value, queue_arguments=arguments)  # type: ignore[no-untyped-call]


def _rabbitmq() -> dict[str, Any]:
    # Without confirms a quorum queue may lose what was published (celery#9149).
    return {"confirm_publish": True}


def _redis(worker_class: WorkerClass) -> dict[str, Any]:
    return {
        "visibility_timeout": worker_class.visibility_s,
        # Each class has its own keys, else the shortest visibility timeout of all would win.
        "unacked_key": f"unacked.{worker_class.name}",
        "unacked_index_key": f"unacked_index.{worker_class.name}",
        "unacked_mutex_key": f"unacked_mutex.{worker_class.name}",
        "unacked_mutex_expire": 20,  # a killed restorer holds the others up no longer than this
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # Without these a publish on a half-open connection hangs for ever (celery#4296).
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    }
