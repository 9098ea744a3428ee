"""The one Settings object: fields with meaning, unit and default. Only here the server reads its environment.

A setting comes from the caller, else from the environment, else from a file in the directory of secrets that is named
like its variable.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from platformdirs import user_cache_path
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from memlane.config.addresses import BROKERS, REDIS, check_address
from memlane.contract.limits import BODY_BYTES, OPEN_JOBS, RATE
from memlane.errors import Misconfigured

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Profile(StrEnum):
    """What a deployment is for."""

    DEVELOPMENT = "development"
    """Readable logs, defaults for everything."""
    PRODUCTION = "production"
    """JSON logs; nodes and broker have to be named, the tests' embedder is refused."""
    TEST = "test"
    """Short waits."""


class EmbedderName(StrEnum):
    """The embedders that come with memlane."""

    MINILM = "minilm"
    OPENAI = "openai"
    HASH = "hash"


class Serves(StrEnum):
    """Which endpoints a gateway process has, beside the probes."""

    ALL = "all"
    """Tenants' and the admin's."""
    TENANTS = "tenants"
    """No /v1/admin, and no admin key is taken: for the process that strangers reach."""
    ADMIN = "admin"
    """Nothing but /v1/admin."""


class WorkerClassName(StrEnum):
    """The classes of worker processes; config/celery.py says what each consumes."""

    INGEST = "ingest"
    UPKEEP = "upkeep"
    MAINTENANCE = "maintenance"
    SWEEP = "sweep"


_TURN_S = 15.0
"""How long a request may wait for its turn at a provider, and a little more."""

SECRETS_DIR = Path("/run/secrets")
"""Where container engines put secrets."""


class Settings(BaseSettings):
    """Everything that can be set: by the caller, as MEMLANE_<FIELD>, or by a file of that name among the secrets."""

    model_config = SettingsConfigDict(
        env_prefix="MEMLANE_", extra="ignore", frozen=True, use_attribute_docstrings=True, populate_by_name=True
    )

    profile: Profile = Profile.DEVELOPMENT
    """What the deployment is for: development, production or test."""

    secrets_dir: Path = SECRETS_DIR
    """Directory whose files are settings as well, named like the variables in small letters; the environment wins."""

    # --- where things are -------------------------------------------------------------------
    nodes: dict[str, SecretStr] = Field(default_factory=dict)
    """Postgres nodes: name to libpq URI, as JSON. A URI may name several hosts (a primary and its standbys)."""
    control_node: str | None = None
    """The node that holds the control schema; the first one unless set."""
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Celery's broker: redis://, rediss://, sentinel://, amqp:// or amqps://."""
    redis_url: SecretStr | None = None
    """Redis for wake-up marks and the provider's limits; the broker when that is a Redis, else none."""
    shard_count: Annotated[int, Field(ge=1, le=256)] = 8
    """Logical shards; fixed when the cluster is created."""

    # --- embedding --------------------------------------------------------------------------
    embedder: EmbedderName = EmbedderName.MINILM
    """Who makes the vectors."""
    openai_base_url: str | None = None
    """An OpenAI-compatible endpoint; OpenAI's own unless set."""
    openai_api_key: SecretStr = SecretStr("")
    """The key for that endpoint; OpenAI's own needs one."""
    openai_model: str = "text-embedding-3-small"
    """The model asked for."""
    openai_dims: Annotated[int, Field(ge=1, le=4000)] = 1536
    """Dimensions of its vectors (pgvector's halfvec indexes up to 4,000)."""
    openai_send_dims: bool = False
    """Whether the endpoint is asked for that many dimensions, or has them by nature."""
    openai_tokenizer: Path | None = None
    """The model's own tokenizer as a tokenizer.json, to count tokens before they are charged; else a bound is used: a
    text has no more tokens than bytes in UTF-8, and a few."""
    embed_timeout_s: Seconds = 30.0
    """Longest time for one request to the provider."""
    embed_texts: Count = 256
    """Most texts in one request to the provider (OpenAI's limit is 2,048)."""
    embed_chars: Count = 400_000
    """Most characters in one request; OpenAI's limit is 300,000 tokens."""
    reservation_s: Seconds = 120.0
    """After how long a call that nobody settled counts as charged; longer than one waits for its turn and takes."""
    minilm_dir: Path | None = None
    """Where the weights of minilm are; looked for in the installed package, then in the cache, unless set."""
    minilm_threads: Count = 1
    """Threads of one embedding process; processes are the better way to use cores."""
    model_cache: Path = Field(default_factory=lambda: user_cache_path("memlane") / "models")
    """Where fetched and converted models are kept."""

    # --- the life of a job ------------------------------------------------------------------
    claim_size: Count = 256
    """Most jobs that a drain claims at once."""
    lease_s: Seconds = 30.0
    """How long a claim holds without being renewed."""
    slice_s: Seconds = 0.25
    """How long one drain goes on with new claims before it makes room for another shard, which may have waited."""
    stop_grace_s: Seconds = 10.0
    """After SIGTERM: how long a drain may finish before its lease is released for it, and a gateway its requests."""
    deaths_alone: Count = 3
    """How often a job may die alone before it is parked."""
    mark_s: Seconds = 5.0
    """How long a wake-up mark keeps others from waking the same shard."""
    agent_cache: Count = 100_000
    """How many agents' numbers a process remembers."""
    promote_at: Count = 20_000
    """Vectors of one agent from which optimize gives it an index of its own."""

    # --- what tenants may hand over ---------------------------------------------------------
    tenant_rate: Annotated[int, Field(ge=1, le=RATE)] | None = None
    """Items that a tenant may hand over in a minute, unless that is set for it; any number without it."""
    agent_rate: Annotated[int, Field(ge=1, le=RATE)] | None = None
    """The same, for each agent."""
    tenant_open_jobs: Annotated[int, Field(ge=1, le=OPEN_JOBS)] | None = None
    """Jobs of a tenant that may be open at once, unless that is set for it; any number without it."""
    hold_s: Seconds = 3600.0
    """How long a producer's message that is over a limit is held back before it is set aside as a stray."""

    # --- the database -----------------------------------------------------------------------
    pool_size: Count = 4
    """Connections of one process to one node."""
    pool_wait_s: Seconds = 2.0
    """How long a call waits for a connection before the node counts as down."""
    connect_timeout_s: Count = 2
    """How long connecting to one host may take."""
    statement_timeout_s: Seconds = 10.0
    """Longest time of a statement of the main path; shorter than the lease."""
    text_search: Annotated[str, Field(pattern=r"^[a-z_]{1,63}$")] = "english"
    """Postgres text search configuration: how words are stemmed."""

    # --- schedule ---------------------------------------------------------------------------
    sweep_every_s: Seconds = 5.0
    """How often lost work is looked for."""
    analyze_every_s: Annotated[int, Field(ge=60)] = 600
    """How often each shard's statistics are brought up to date."""
    expire_every_s: Annotated[int, Field(ge=60)] = 60
    """How often memories that have expired are forgotten; nobody sees them before that either."""

    # --- money ------------------------------------------------------------------------------
    alert_percents: tuple[Annotated[int, Field(ge=1, le=100)], ...] = (50, 80, 100)
    """The shares of a budget of which it is told, once in each period, that they are reached, in percent; as JSON."""
    alert_urls: tuple[SecretStr, ...] = ()
    """The channels that are told: apprise's URLs (mailto://, slack://, json:// and so on), as JSON."""
    budgets_every_s: Annotated[int, Field(ge=60)] = 60
    """How often it is looked which budgets have reached which share."""

    # --- limits -----------------------------------------------------------------------------
    provider_rpm: Count | None = None
    """Requests that the provider takes in a minute, from all processes together; no limit is known unless set."""
    provider_tpm: Count | None = None
    """Tokens that the provider takes in a minute, from all processes together; no limit is known unless set."""
    provider_concurrency: Count | None = None
    """Requests that the provider takes at once, from all processes together; no limit is known unless set."""
    provider_share: Count = 8
    """Among how many processes these limits are divided while Redis, through which they are shared, is away."""

    # --- the gateway ------------------------------------------------------------------------
    host: str = "127.0.0.1"
    """Address that the gateway listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8777
    """Port that the gateway listens on."""
    serves: Serves = Serves.ALL
    """Which endpoints the gateway has: all, tenants (no /v1/admin) or admin (nothing else); probes always."""
    gateway_threads: Count = 8
    """Threads, and so connections, of the gateway for each node; a node that hangs holds up only its own."""
    gateway_queue: Count = 256
    """Calls that may wait for a node's threads, one for each shard that a batch touches; more are answered with 503."""
    question_s: Seconds = 5.0
    """How long a recall waits for its question's vector before it goes by words alone; one of several agents also for
    each shard, before it names the agents there as missing."""
    max_body_bytes: Count = BODY_BYTES
    """Largest request body."""
    body_s: Seconds = 30.0
    """How long a request's body may take to arrive; longer than that is answered with 408."""
    key_cache_s: Seconds = 10.0
    """How long a key is trusted without asking control again; longer while control is down."""
    poll_s: Seconds = 0.02
    """Shortest pause between two looks for those who wait for a receipt."""

    # --- Sentry -----------------------------------------------------------------------------
    sentry_dsn: SecretStr | None = Field(None, validation_alias=AliasChoices("MEMLANE_SENTRY_DSN", "SENTRY_DSN"))
    """Where errors and the duties' check-ins are sent, also read from `SENTRY_DSN`; nowhere unless set."""
    sentry_environment: str | None = None
    """Sentry's name for this deployment; the profile's unless set."""

    # --- Flower -----------------------------------------------------------------------------
    flower_host: str = "127.0.0.1"
    """Address that Flower listens on; any but loopback needs a password."""
    flower_port: Annotated[int, Field(ge=0, le=65535)] = 5555
    """Port that Flower listens on; 0 for any that is free."""
    flower_user: Annotated[str, Field(pattern=r"^[!-9;-~]+$")] = "memlane"
    """The name to log in to Flower with."""
    flower_password: SecretStr = SecretStr("")
    """The password to log in to Flower with; without one, everybody on the machine may look."""
    flower_db: Path = Field(default_factory=lambda: user_cache_path("memlane") / "flower" / "state")
    """File in which Flower keeps what it has seen; a pickle, so that only Flower may be able to write it."""
    flower_control: bool = False
    """Whether Flower may also act: shut workers down, revoke tasks, send some."""

    # --- the process ------------------------------------------------------------------------
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    worker_class: WorkerClassName = WorkerClassName.INGEST
    """Which queues this worker process consumes; see config/celery.py."""
    ready_file: Path | None = None
    """Written when this process is ready; the supervisor waits for it."""

    @field_validator("broker_url")
    @classmethod
    def _is_broker(cls, url: SecretStr) -> SecretStr:
        check_address(url.get_secret_value(), BROKERS)
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_address(url.get_secret_value(), REDIS)
        return url

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.control_node is not None and self.control_node not in self.nodes:
            raise ValueError("control_node must be one of nodes")
        if self.statement_timeout_s >= self.lease_s:
            raise ValueError(
                "statement_timeout_s must be shorter than lease_s, or a stalled statement outlives its claim"
            )
        if self.embed_timeout_s + _TURN_S > self.reservation_s:
            raise ValueError(
                f"reservation_s must be {_TURN_S:g} s longer than embed_timeout_s, or calls under way count as charged"
            )
        if self.profile is Profile.PRODUCTION:
            self._fit_for_production()
        return self

    def _fit_for_production(self) -> None:
        missing = {"nodes", "broker_url"} - self.model_fields_set
        if missing:
            named = ", ".join(_variable((name,)) for name in sorted(missing))
            raise ValueError(f"profile production needs {named}, as a variable or as a file in MEMLANE_SECRETS_DIR")
        if self.embedder is EmbedderName.HASH:
            raise ValueError("the hash embedder is for tests, not for profile production")

    @property
    def control(self) -> str:
        """The name of the node that holds the control schema."""
        if not self.nodes:
            raise Misconfigured('no Postgres node is set: MEMLANE_NODES=\'{"node-1": "postgresql://..."}\'')
        return self.control_node or next(iter(self.nodes))

    @property
    def marks_url(self) -> str | None:
        """The Redis that holds wake-up marks and the provider's limits, or None without one."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        broker = self.broker_url.get_secret_value()
        return broker if broker.startswith(("redis://", "rediss://", "unix://")) else None


def load_settings(**overrides: object) -> Settings:
    """The settings of this process.

    Raises:
        Misconfigured: names each wrong setting, never its value.
    """
    try:
        return Settings(_secrets_dir=_secrets_dir(), **overrides)  # type: ignore[arg-type]  # pydantic checks them
    except OSError as error:
        raise Misconfigured(f"settings: {error.filename} cannot be read: {error.strerror}") from None
    except SettingsError as error:
        raise Misconfigured(f"settings: {_unparsable(error)} is not JSON") from None
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)
        lines = [f"{_variable(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in wrong]
        raise Misconfigured("settings: " + "; ".join(lines)) from None


def _secrets_dir() -> Path | None:
    """Where secrets are; None if nobody has named a directory and the usual one is not there, or not for us."""
    named = os.environ.get("MEMLANE_SECRETS_DIR")
    if named is None:
        return SECRETS_DIR if os.access(SECRETS_DIR, os.R_OK | os.X_OK) else None
    if not Path(named).is_dir():
        raise Misconfigured(f"MEMLANE_SECRETS_DIR: {named} is no directory")
    return Path(named)


def _unparsable(error: SettingsError) -> str:
    """The variable that pydantic-settings names; its message ends with the value's source."""
    named = str(error).split('"')
    return _variable((named[1],)) if len(named) > 1 else "a setting"


def _variable(location: tuple[int | str, ...]) -> str:
    return "MEMLANE_" + "_".join(str(part) for part in location).upper() if location else "settings that go together"
