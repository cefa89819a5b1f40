"""Leases as an operator sees them, and what becomes of those whose gateway will not come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farebox.core import clock
from farebox.errors import NotFound
from farebox.store import Store
from farebox.store.leases import StoredLease
from farebox.store.owner import is_dead


def listed(store: Store) -> list[dict[str, Any]]:
    """Every lease that may still be charged."""
    return [_as_dict(lease) for lease in store.leases()]


def lose(store: Store, data_dir: Path, owner: str) -> list[dict[str, Any]]:
    """Declare an owner lost: what its leases had not spent is booked as lost, and the accounts do
    not get it back. Those leases.

    Raises NotFound for an owner that nobody knows, StoreConflict for one that lives.
    """
    if not store.has_owner(owner):
        raise NotFound(f"There is no owner {owner!r}. `farebox leases list` shows who there is.")
    return [_as_dict(lease) for lease in store.lose(owner, lambda name: is_dead(data_dir, name))]


def _as_dict(lease: StoredLease) -> dict[str, Any]:
    heard_us = lease.heartbeat_us
    return {
        "id": lease.id,
        "account": lease.account,
        "owner": lease.owner,
        "host": lease.host,
        "owner_state": lease.owner_state,
        "owner_heard_at": None if heard_us is None else clock.rfc3339(heard_us),
        "state": lease.state,
        "granted_nanocredits": lease.granted_nanocredits,
        "spent_nanocredits": lease.spent_nanocredits,
        "returned_nanocredits": lease.returned_nanocredits,
        "unspent_nanocredits": lease.unspent_nanocredits,
        "opened_at": clock.rfc3339(lease.opened_us),
    }
