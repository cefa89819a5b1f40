"""Leases as an operator sees them, and what becomes of those whose gateway will not come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farebox.core import clock
from farebox.errors import NotFound
from farebox.store import Store
from farebox.store.leases import StoredLease
from farebox.store.owner import is_dead


def listed(store: Store, data_dir: Path) -> list[dict[str, Any]]:
    """Every lease that may still be charged. `data_dir` is whose owners have their locks there,
    with SQLite.
    """
    return [_as_dict(store, lease, data_dir) for lease in store.leases()]


def lose(store: Store, data_dir: Path, owner: str) -> list[dict[str, Any]]:
    """Declare an owner lost: what its leases had not spent is booked as lost, and the accounts do
    not get it back. Those leases.

    Raises NotFound for an owner that nobody knows, StoreConflict for one that lives.
    """
    if not store.has_owner(owner):
        raise NotFound(f"There is no owner {owner!r}. `farebox leases list` shows who there is.")
    lost = store.lose(owner, lambda name: is_dead(data_dir, name))
    return [_as_dict(store, lease, data_dir) for lease in lost]


def _as_dict(store: Store, lease: StoredLease, data_dir: Path) -> dict[str, Any]:
    heard_us, owner_state = lease.heartbeat_us, lease.owner_state
    if not store.is_postgresql:
        # Nobody is heard of there: an owner lives as long as it holds its lock.
        heard_us = None
        owner_state = "ended" if is_dead(data_dir, lease.owner) else "live"
    return {
        "id": lease.id,
        "account": lease.account,
        "owner": lease.owner,
        "host": lease.host,
        "owner_state": owner_state,
        "owner_heard_at": None if heard_us is None else clock.rfc3339(heard_us),
        "state": lease.state,
        "granted_nanocredits": lease.granted_nanocredits,
        "spent_nanocredits": lease.spent_nanocredits,
        "returned_nanocredits": lease.returned_nanocredits,
        "unspent_nanocredits": lease.unspent_nanocredits,
        "opened_at": clock.rfc3339(lease.opened_us),
    }
