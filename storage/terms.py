"""The terms of tenants: how much each may hand over, and its share of the work, as control said a moment ago."""

from collections.abc import Mapping
from dataclasses import dataclass

from memlane.config.settings import Settings
from memlane.contract.status import TenantLimits
from memlane.storage import tenants
from memlane.storage.looks import Look, Looked
from memlane.storage.nodes import Node

EVERY_S = 2.0
"""How often control is asked; what an operator sets holds everywhere within that time."""


@dataclass(frozen=True, slots=True)
class Known:
    """What control said: the limits of those tenants that have some of their own."""

    limits: Mapping[str, TenantLimits]
    weights: Mapping[str, int]


class Terms(Looked[Known]):
    """What tenants may do, for one process; where nothing is set for a tenant, the settings hold.

    Args:
        control: where it is kept. While it is down, what was known goes on.
        settings: this process's.
    """

    def __init__(self, control: Node, settings: Settings) -> None:
        self._unless_set = TenantLimits(1, settings.tenant_rate, settings.agent_rate, settings.tenant_open_jobs)
        self._look = Look("terms", lambda: _known(control), EVERY_S, Known({}, {}))

    def of(self, tenant: str) -> TenantLimits:
        """A tenant's terms; None where there is no limit."""
        own = self._look.value.limits.get(tenant)
        return self._unless_set if own is None else _first(own, self._unless_set)

    @property
    def weights(self) -> Mapping[str, int]:
        """The weights of tenants; 1 for those that are not named."""
        return self._look.value.weights

    @property
    def capped(self) -> list[str] | None:
        """The tenants that have a cap of open jobs; None: all."""
        if self._unless_set.open_jobs is not None:
            return None
        return sorted(tenant for tenant, own in self._look.value.limits.items() if own.open_jobs is not None)


def _known(control: Node) -> Known:
    found = tenants.limits(control)
    return Known(found, {tenant: own.weight for tenant, own in found.items() if own.weight is not None})


def _first(own: TenantLimits, unless_set: TenantLimits) -> TenantLimits:
    """Each limit of a tenant's own, or else the settings'."""
    return TenantLimits(
        own.weight or unless_set.weight,
        own.rate or unless_set.rate,
        own.agent_rate or unless_set.agent_rate,
        own.open_jobs or unless_set.open_jobs,
    )
