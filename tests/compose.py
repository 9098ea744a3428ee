"""docker-compose.yml as the tests read it: variables resolved, secrets where each service finds them."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
MAKE_SECRETS = ROOT / "config" / "compose" / "make-secrets.sh"

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})")
_SECONDS = {"s": 1, "m": 60}


def resolve(text: str, variables: Mapping[str, str]) -> str:
    """A text as Compose would fill it in: ${NAME}, ${NAME:-default}, ${NAME:?error} and $$.

    Raises:
        KeyError: a variable that must be set is not.
    """

    def one(match: re.Match[str]) -> str:
        dollar, name, how, rest = match.groups()
        if dollar:
            return "$"
        value = variables.get(name)
        if value or (value == "" and how in ("-", "?")):
            return value
        if how in (":?", "?") or how is None:
            raise KeyError(name)
        return str(rest)

    return _VARIABLE.sub(one, text)


def _resolved(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return resolve(value, variables)
    if isinstance(value, list):
        return [_resolved(one, variables) for one in value]
    if isinstance(value, dict):
        return {name: _resolved(one, variables) for name, one in value.items()}
    return value


def seconds(text: str) -> int:
    """A duration such as 30s or 1m."""
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([sm])", text))


@dataclass(frozen=True)
class Service:
    """One service."""

    name: str
    raw: Mapping[str, Any]

    @cached_property
    def command(self) -> Sequence[str]:
        """Its program and arguments."""
        return [str(part) for part in self.raw["command"]]

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """Its variables."""
        return {name: str(value) for name, value in self.raw.get("environment", {}).items()}

    @cached_property
    def secrets(self) -> Mapping[str, str]:
        """Its files below /run/secrets, and the secret in each."""
        listed = [
            {"source": one, "target": one} if isinstance(one, str) else one for one in self.raw.get("secrets", [])
        ]
        return {one["target"]: one["source"] for one in listed}

    @cached_property
    def depends_on(self) -> Mapping[str, str]:
        """What has to be there before it, and in which condition."""
        return {name: how["condition"] for name, how in self.raw.get("depends_on", {}).items()}

    @cached_property
    def ports(self) -> Sequence[tuple[str, int, int]]:
        """Address and port outside, port inside."""
        split = [str(port).rsplit(":", 2) for port in self.raw.get("ports", [])]
        return [(address, int(outside), int(inside)) for address, outside, inside in split]

    @cached_property
    def check(self) -> Sequence[str]:
        """What tells whether it is healthy: a program and its arguments."""
        kind, *rest = self.raw["healthcheck"]["test"]
        return ["sh", "-c", *rest] if kind == "CMD-SHELL" else rest

    @property
    def replicas(self) -> int:
        """How many of it there are."""
        return int(self.raw.get("deploy", {}).get("replicas", 1))

    @property
    def ours(self) -> bool:
        """Whether it runs our image."""
        return "build" in self.raw

    @property
    def asked_for(self) -> bool:
        """Whether it is run only when somebody asks for it."""
        return "profiles" in self.raw

    @property
    def stop_grace_s(self) -> int:
        """How long it may take to stop."""
        return seconds(self.raw["stop_grace_period"])


@dataclass(frozen=True)
class Compose:
    """The whole file."""

    raw: Mapping[str, Any]

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """The services by name."""
        return {name: Service(name, raw) for name, raw in self.raw["services"].items()}

    @property
    def ours(self) -> list[Service]:
        """Those that run our image all the time, or at each start."""
        return [service for service in self.services.values() if service.ours and not service.asked_for]

    def in_order(self) -> list[Service]:
        """The services, each after those that it depends on."""
        done: dict[str, Service] = {}

        def add(service: Service) -> None:
            for name in service.depends_on:
                add(self.services[name])
            done.setdefault(service.name, service)

        for service in self.services.values():
            add(service)
        return list(done.values())


def read(variables: Mapping[str, str] | None = None) -> Compose:
    """The file with these variables and no others."""
    return Compose(_resolved(yaml.safe_load(FILE.read_text()), variables or {}))


def make_secrets(folder: Path) -> None:
    """What an operator does first."""
    subprocess.run([str(MAKE_SECRETS), str(folder)], check=True, capture_output=True, text=True)
