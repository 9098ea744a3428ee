"""Keys: the admin's first one is made good once, and never again."""

from uuid import uuid4

import pytest

from memlane.errors import Unauthorized
from memlane.storage import tenants
from memlane.tasks.lane import Lane


def test_the_first_admin_key_is_good_once(lane: Lane) -> None:
    control = lane.cluster.control
    first, other = tenants.new_key(), tenants.new_key()
    assert tenants.create_first_admin_key(control, first)
    assert tenants.authenticate(control, first).principal.admin
    assert not tenants.create_first_admin_key(control, first)
    assert not tenants.create_first_admin_key(control, other)
    with pytest.raises(Unauthorized):
        tenants.authenticate(control, other)


def test_a_revoked_first_key_does_not_come_back(lane: Lane) -> None:
    control = lane.cluster.control
    first = tenants.new_key()
    tenants.create_first_admin_key(control, first)
    tenants.revoke_key(control, tenants.prefix_of(first))
    assert not tenants.create_first_admin_key(control, first)
    assert not tenants.create_first_admin_key(control, tenants.new_key())
    with pytest.raises(Unauthorized):
        tenants.authenticate(control, first)


def test_a_tenants_key_does_not_stand_in_its_way(lane: Lane, tenant_key: str) -> None:
    control = lane.cluster.control
    assert not tenants.authenticate(control, tenant_key).principal.admin
    assert tenants.create_first_admin_key(control, tenants.new_key())
    with pytest.raises(Unauthorized, match="not an API key"):
        tenants.create_first_admin_key(control, str(uuid4()))
