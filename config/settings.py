"""The one Settings object: fields with meaning, unit and default. Only here the server reads its environment.

A setting comes from the caller, else from the environment, else from a file in the directory of secrets that is named
like its variable.
"""

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from platformdirs import user_cache_path
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from memlane.config.addresses import BROKERS, REDIS, check_address, check_statsd, next_database
from memlane.config.caching import PRESETS, CachePolicy, CachePreset, CacheSizes
from memlane.contract.health import Level
from memlane.contract.limits import BODY_BYTES, OPEN_JOBS, RATE
from memlane.errors import Misconfigured

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Weight = Annotated[float, Field(ge=0, le=1)]


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
    """No /v1/admin and no /v1/health, and no admin key is taken: for the process that strangers reach."""
    ADMIN = "admin"
    """Nothing but /v1/admin and /v1/health."""


class WorkerClassName(StrEnum):
    """The classes of worker processes; config/celery.py says what each consumes."""

    INGEST = "ingest"
    UPKEEP = "upkeep"
    MAINTENANCE = "maintenance"
    SWEEP = "sweep"


_TURN_S = 15.0
"""How long a request may wait for its turn at a provider, and a little more."""

_PAIRS = (
    ("cpu_warn_percent", "cpu_most_percent"),
    ("cache_least_percent", "cache_warn_percent"),
    ("queue_warn_s", "queue_most_s"),
)
"""Thresholds of which the first has to be less."""

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
    claim_mb: Count = 4
    """How much they carry together, in MiB, when no more are added; of large memories a drain claims fewer."""
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

    # --- indexes of large agents --------------------------------------------------------------
    optimize_every_s: Annotated[int, Field(ge=60, le=86_400)] = 600
    """How often it is looked which agents shall have an index of their own, and how well each answers."""
    promote_at: Count = 10_000
    """Vectors of one agent from which it gets an index of its own; with less than half as many it loses it again."""
    indexes_per_shard: Annotated[int, Field(ge=0, le=1000)] = 100
    """How many agents of a shard may have one: each that there is makes planning on its shard slower."""
    index_mb: Annotated[int, Field(ge=0)] = 4096
    """What the indexes of all agents on a node may take together, in MiB; one of 100,000 vectors with 384 dimensions
    takes 112. Agents that are asked more come first."""
    index_build_mb: Annotated[int, Field(ge=64)] = 1024
    """What building one may take of a node's memory, in MiB: what does not fit is added on disk, which takes longer."""
    index_recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The recall@10 against exact search, on questions that were asked, below which more of an index is looked at, or
    it is built better, or given up."""

    # --- memory -----------------------------------------------------------------------------
    child_memory_mb: Annotated[int, Field(ge=64)] = 1000
    """What each pool process of a worker may hold, in MiB: one that holds more ends after its task, for a new one."""
    memory_warn_percent: Annotated[int, Field(ge=20, le=99)] = 80
    """From how much of it, or of its container's or machine's memory, a worker claims fewer jobs, in percent."""
    memory_stop_percent: Annotated[int, Field(ge=20, le=100)] = 95
    """From how much on it claims none, in percent; each holds until it is ten less."""

    # --- what tenants may hand over ---------------------------------------------------------
    tenant_rate: Annotated[int, Field(ge=1, le=RATE)] | None = None
    """Items that a tenant may hand over in a minute, unless that is set for it; any number without it."""
    agent_rate: Annotated[int, Field(ge=1, le=RATE)] | None = None
    """The same, for each agent."""
    tenant_open_jobs: Annotated[int, Field(ge=1, le=OPEN_JOBS)] | None = None
    """Jobs of a tenant that may be open at once, unless that is set for it; any number without it."""
    agent_open_mb: Annotated[int, Field(ge=1)] | None = 256
    """What memories of one agent that are not stored yet may hold, in MiB of a shard; `none`: any amount."""
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
    expire_every_s: Annotated[int, Field(ge=60)] = 60
    """How often memories that have expired are forgotten; nobody sees them before that either."""
    moments_every_s: Annotated[int, Field(ge=60, le=3600)] = 600
    """How often it is noted which number was given last, so that the age of memories can be told from their numbers."""

    # --- upkeep: vacuum, retention, auto-tune -------------------------------------------------
    vacuum_every_s: Annotated[int, Field(ge=60, le=86_400)] = 600
    """How often it is looked which tables and indexes have to be vacuumed, analyzed or built again."""
    vacuum_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    """So many rows that are dead, new or changed, beside a share of all, make a table due."""
    vacuum_dead_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The share of dead rows from which a table is vacuumed."""
    vacuum_inserted_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The share of rows that came since, from which a table is vacuumed."""
    analyze_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The share of rows that changed since, from which a table is analyzed."""
    reindex_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of an agent's index, of vectors that are gone, from which it is built again."""

    retention_every_s: Annotated[int, Field(ge=60, le=86_400)] = 3600
    """How often what is kept for a time only is let go, and the ledger's old rows are put together."""
    usage_days: Annotated[int, Field(ge=62, le=36_500)] = 400
    """For how many days it is kept what was used and spent on which day; the sums by model stay for good."""
    embedding_cache_days: Annotated[int, Field(ge=1, le=36_500)] | None = 90
    """After how many days without use an embedding in the cache is let go; no limit if it is
    `never`."""
    forget_below: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The resonance below which a memory that is not pinned is forgotten for good; nothing is forgotten for that unless
    set. What was never used has 0.5 at first, and all lose half a per cent in an hour."""

    autotune: bool | None = None
    """Whether claim size, drains per shard and hnsw.ef_search are tuned; if unset, everywhere but in development."""
    tune_every_s: Annotated[int, Field(ge=60, le=1800)] = 300
    """How often it is looked whether a turn of a knob made things better, and the next is tried."""
    tune_claim_size: tuple[Annotated[int, Field(ge=1, le=10_000)], Annotated[int, Field(ge=1, le=10_000)]] = (32, 1024)
    """Between which sizes claims are tuned, and set by hand; as JSON."""
    tune_drains_per_shard: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] = (1, 8)
    """Between how many drains of a kind are at work on a shard at once; as JSON."""
    tune_ef_search: tuple[Annotated[int, Field(ge=1, le=1000)], Annotated[int, Field(ge=1, le=1000)]] = (40, 800)
    """Between how much of an agent's index is looked at; as JSON."""
    drains_per_shard: Annotated[int, Field(ge=1, le=64)] = 2
    """How many drains of a kind may be at work on one shard at once: while one waits for vectors, another writes."""
    ef_search: Annotated[int, Field(ge=1, le=1000)] = 200
    """How much of an agent's own index a recall looks at: pgvector's hnsw.ef_search."""

    # --- questions and warm caches ------------------------------------------------------------
    query_log: bool = True
    """Whether recalls are logged: which agent was asked what and when, how long it took, and how much was found."""
    query_text: bool = True
    """Whether the log keeps what was asked; without it only the SHA-256 of that, from which nothing can be warmed."""
    query_log_days: Annotated[int, Field(ge=1, le=3650)] = 7
    """How long the log is kept."""
    question_cache: bool = True
    """Whether the vectors of questions are kept, so that a question that is asked again is not paid for again."""
    patterns_every_s: Annotated[int, Field(ge=60)] = 300
    """How often it is looked which questions come again and again."""
    pattern_window: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many of the last questions to an agent count for its patterns."""
    pattern_least: Count = 5
    """A question that was asked more often than this among them is a pattern."""
    warm_cache: bool = True
    """Whether patterns are embedded and memories read ahead."""
    warm_every_s: Annotated[int, Field(ge=60)] = 300
    """How often that is done."""
    warm_active_s: Seconds = 86_400.0
    """An agent that was asked within this time is about to be asked again, so that its memories are read ahead."""
    warm_agents: Count = 1000
    """Of how many agents on a shard memories are read ahead at most, the last asked first."""
    warm_memories: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many memories of an agent are read ahead."""
    warm_used_s: Seconds = 604_800.0
    """Only memories that were recalled within this time are read ahead."""
    warm_resonance: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Only memories with more resonance than this are read ahead."""
    warm_weights: tuple[Weight, Weight, Weight] = (0.4, 0.3, 0.3)
    """What their order rests on: the weights of importance, resonance and accesses; as JSON."""

    # --- caches of answers --------------------------------------------------------------------
    cache_preset: CachePreset = CachePreset.BALANCED
    """How much is kept of answers and vectors of questions, and for how long: balanced, high-traffic, small or none;
    each part may be set alone."""
    cache_entries: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """How many recalls, and as many lists, a process keeps; as the preset says unless set."""
    cache_mb: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """What recalls, and as much lists, may hold in a process, in MiB; as the preset says unless set."""
    cache_ttl_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """How long an answer is given again at most; as the preset says unless set. What has changed is seen at once."""
    cache_idle_s: Seconds | None = None
    """How long a process keeps an answer that nobody asks for; as the preset says unless set."""
    cache_questions: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """How many vectors of questions a process keeps; as the preset says unless set."""
    cache_question_ttl_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """How long it keeps these, and Redis does; as the preset says unless set."""
    cache_policy: CachePolicy = CachePolicy.LRU
    """What goes where there is no room: lru, what was not of use for longest, or lfu, what was least often."""
    cache_similar: Annotated[float, Field(ge=0.8, le=1)] | None = None
    """How similar a question has to be to another to the same agent, as a cosine, to be given its answer, marked as
    such; unless set, only the same question is."""
    cache_url: SecretStr | None = None
    """Redis for what processes share of caches, in a database of its own; `none`: nothing is shared. Unless set, the
    database after that of MEMLANE_REDIS_URL."""
    cache_compress_bytes: Annotated[int, Field(ge=0)] = 1024
    """From which size on an answer is compressed in Redis, in bytes."""

    # --- tiers --------------------------------------------------------------------------------
    tiers_from: Count = 2000
    """Memories of an agent from which a recall reads the fresh ones first, and cold ones if these have too few good
    hits; of smaller agents all are read at once, which takes no longer."""
    recall_all_memories: Count = 20_000
    """How many memories a recall of all of a tenant's agents compares with the question on each shard, about: those of
    the newest agents there; how many were left out is said in its answer."""
    good_similarity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How similar to its question a hit has to be to count as good; it depends on the model."""

    # --- health and incidents -----------------------------------------------------------------
    pulse_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How often each process says how it is."""
    lost_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """After how long without a word a process counts as lost; longer than two pulses."""
    health_every_s: Annotated[int, Field(ge=5, le=60)] = 30
    """How often the whole is looked at, each component scored, and what is wrong told."""
    health_window_s: Annotated[float, Field(ge=30, le=3600)] = 300.0
    """Over how long rates and response times are taken, and trends are seen in."""
    health_least: Count = 20
    """How many requests there have to be in that time for their rates and times to mean something."""
    watchdog_s: Annotated[float, Field(gt=0, le=600)] = 75.0
    """After how long without a report a gateway looks by itself; longer than two looks."""
    incident_level: Level = Level.WARNING
    """The level from which incidents are told to channels and Sentry: warning, error or critical; all are logged."""
    cpu_warn_percent: Percent = 80.0
    """Processor time of a class of processes, of one core for each, that is much."""
    cpu_most_percent: Percent = 95.0
    """Processor time that is too much; more than what is much."""
    response_warn_ms: Seconds = 1000.0
    """The time within which 95 % of each kind of request should be answered, in milliseconds."""
    recall_warn_ms: Seconds = 100.0
    """The same for the search of a recall, without the embedding, in milliseconds; not longer than that of all."""
    error_warn_percent: Percent = 5.0
    """The share of requests that fail, and not by the fault of whoever asks, that is too much."""
    cache_warn_percent: Percent = 60.0
    """The share of looks into a cache that find something below which it is of little use."""
    cache_least_percent: Percent = 50.0
    """The same, below which something is wrong if it was of use within the hour before; less than that."""
    queue_warn_s: Seconds = 60.0
    """How long the oldest job that is due may have waited."""
    queue_most_s: Seconds = 600.0
    """The same, from which on it is an error; longer than that."""
    lag_warn_bytes: Count = 67_108_864
    """How far a standby may be behind its primary, in bytes of the log."""

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
    """Calls that may wait for a node's threads, and parts of requests, one for each shard, that may wait to be taken in
    there together; more are answered with 503."""
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

    # --- hooks ------------------------------------------------------------------------------
    hooks_off: tuple[str, ...] = ()
    """Plugins around operations that are installed but not wanted, by the names of their entry points, as JSON."""
    observe_tenants: bool = False
    """Whether spans and DogStatsD's figures name the tenant; agents are named nowhere."""
    otel_endpoint: SecretStr | None = Field(
        None, validation_alias=AliasChoices("MEMLANE_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    """The OpenTelemetry collector that spans are sent to by OTLP over HTTP, like http://127.0.0.1:4318, also read from
    `OTEL_EXPORTER_OTLP_ENDPOINT`; nowhere unless set."""
    statsd_url: str | None = None
    """The DogStatsD agent that figures are sent to: udp://host:port or unix:///path; nowhere unless set."""

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

    @field_validator("embedding_cache_days", mode="before")
    @classmethod
    def _or_never(cls, days: object) -> object:
        return None if days == "never" else days

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_address(url.get_secret_value(), REDIS)
        return url

    @field_validator("cache_url")
    @classmethod
    def _is_redis_or_none(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and url.get_secret_value() != "none":
            check_address(url.get_secret_value(), REDIS)
        return url

    @field_validator("statsd_url")
    @classmethod
    def _is_statsd(cls, url: str | None) -> str | None:
        if url is not None:
            check_statsd(url)
        return url

    @field_validator("agent_open_mb", mode="before")
    @classmethod
    def _is_none(cls, given: object) -> object:
        return None if given == "none" else given  # the environment has no other way to say so

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
        if self.lost_s <= 2 * self.pulse_s:
            raise ValueError("lost_s must be more than two pulse_s, or processes that live count as lost")
        self._thresholds_hold_together()
        for name in ("tune_claim_size", "tune_drains_per_shard", "tune_ef_search"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} must be the least and the most, in this order")
        if self.memory_warn_percent >= self.memory_stop_percent:
            raise ValueError("memory_warn_percent must be less than memory_stop_percent")
        if self.profile is Profile.PRODUCTION:
            self._fit_for_production()
        return self

    def _thresholds_hold_together(self) -> None:
        if self.watchdog_s <= 2 * self.health_every_s:
            raise ValueError("watchdog_s must be more than two health_every_s, or gateways look although others do")
        if self.health_window_s < 2 * self.health_every_s:
            raise ValueError("health_window_s must be at least two health_every_s, or there is nothing to compare with")
        for less, more in _PAIRS:
            if getattr(self, less) >= getattr(self, more):
                raise ValueError(f"{less} must be less than {more}")
        if self.recall_warn_ms > self.response_warn_ms:
            raise ValueError("recall_warn_ms must not be more than response_warn_ms")

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
    def autotunes(self) -> bool:
        """Whether knobs are tuned."""
        return self.profile is not Profile.DEVELOPMENT if self.autotune is None else self.autotune

    @property
    def cache_sizes(self) -> CacheSizes:
        """How large caches are: the preset's sizes, but for what is set alone."""
        given = {name: getattr(self, f"cache_{name}") for name in CacheSizes.__slots__}
        sizes = replace(PRESETS[self.cache_preset], **{name: one for name, one in given.items() if one is not None})
        return sizes if self.cache_preset is not CachePreset.NONE else PRESETS[CachePreset.NONE]

    @property
    def shared_cache_url(self) -> str | None:
        """The Redis that processes share caches through, or None without one."""
        if self.cache_preset is CachePreset.NONE:
            return None
        if self.cache_url is not None:
            url = self.cache_url.get_secret_value()
            return None if url == "none" else url
        return None if self.marks_url is None else next_database(self.marks_url)

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
