"""API keys by their digests, for operators and for processes that keep them in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from farebox.core import clock
from farebox.core.account import Account, Key
from farebox.store.accounts import as_account, bump_keys
from farebox.store.engine import StoreBase
from farebox.store.schema import accounts, keys, revisions, usage_hours


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key with what may be shown of it."""

    key: Key
    account: str  # the account's name
    hint: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Accounts and keys that changed after a revision, as they are at `revision`."""

    revision: int
    accounts: tuple[Account, ...]
    keys: tuple[Key, ...]


def _as_key(row: sa.RowMapping) -> Key:
    return Key(
        id=row["id"],
        account_id=row["account_id"],
        digest=row["digest"],
        name=row["name"],
        models=tuple(json.loads(row["models"])),
        budget_nanocredits=row["budget"],
        budget_period=row["budget_period"],
        expires_us=row["expires_us"],
        revoked_us=row["revoked_us"],
    )


def _stored(row: sa.RowMapping) -> StoredKey:
    return StoredKey(_as_key(row), row["account_name"], row["hint"], row["created_us"])


_WITH_ACCOUNT = sa.select(keys, accounts.c.name.label("account_name")).join(
    accounts, accounts.c.id == keys.c.account_id
)


class Keys(StoreBase):
    """What the store knows of keys."""

    def create_key(self, key: Key, hint: str) -> StoredKey:
        """Keep a new key; its account exists."""
        with self._writing() as connection:
            _insert(connection, key, hint)
            return _get(connection, key.id)

    def key(self, key_id: str) -> StoredKey | None:
        """The key of that id."""
        with self._reading() as connection:
            row = connection.execute(_WITH_ACCOUNT.where(keys.c.id == key_id)).mappings().first()
            return _stored(row) if row else None

    def keys(self, account_id: int | None = None) -> list[StoredKey]:
        """All keys, or those of one account, oldest first."""
        query = _WITH_ACCOUNT.order_by(keys.c.created_us, keys.c.id)
        if account_id is not None:
            query = query.where(keys.c.account_id == account_id)
        with self._reading() as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def set_budget(self, key_id: str, nanocredits: int | None, period: str) -> StoredKey:
        """Give the key another budget, or none. What it was charged in the period counts."""
        with self._writing() as connection:
            connection.execute(
                sa.update(keys)
                .where(keys.c.id == key_id)
                .values(budget=nanocredits, budget_period=period, revision=bump_keys(connection))
            )
            return _get(connection, key_id)

    def budgets_spent(self, starts_us: Mapping[str, int]) -> dict[str, int]:
        """Nano-credits that each key with a budget was charged since its present period began;
        `starts_us`: when that was, by period. Keys that were charged nothing are left out.
        """
        begun_us = sa.case(starts_us, value=keys.c.budget_period)
        query = (
            sa.select(keys.c.id, sa.func.sum(usage_hours.c.charge))
            .join(
                usage_hours,
                sa.and_(
                    usage_hours.c.account_id == keys.c.account_id,
                    usage_hours.c.key_id == keys.c.id,
                    usage_hours.c.hour_us >= begun_us,
                ),
            )
            .where(keys.c.budget.is_not(None))
            .group_by(keys.c.id)
        )
        with self._reading() as connection:
            return {key_id: int(spent) for key_id, spent in connection.execute(query)}

    def revoke_key(self, key_id: str, revoked_us: int) -> StoredKey:
        """Refuse the key from that time on; an earlier revocation stays as it is."""
        with self._writing() as connection:
            _revoke(connection, key_id, revoked_us)
            return _get(connection, key_id)

    def roll_key(self, key_id: str, revoked_us: int, successor: Key, hint: str) -> StoredKey:
        """Revoke a key at that time and keep its successor, in one transaction; the successor."""
        with self._writing() as connection:
            _revoke(connection, key_id, revoked_us)
            _insert(connection, successor, hint)
            return _get(connection, successor.id)

    def find_key(self, digest: bytes) -> tuple[Account, Key] | None:
        """Who has the key of this digest, valid or not."""
        with self._reading() as connection:
            row = (
                connection.execute(sa.select(keys).where(keys.c.digest == digest))
                .mappings()
                .first()
            )
            if row is None:
                return None
            owner = connection.execute(
                sa.select(accounts).where(accounts.c.id == row["account_id"])
            )
            return as_account(owner.mappings().one()), _as_key(row)

    def changed_since(self, revision: int) -> Changes:
        """What a process that is at `revision` has to learn; 0 gives everything."""
        with self._reading() as connection:
            now = connection.execute(
                sa.select(revisions.c.value).where(revisions.c.name == "keys")
            ).scalar_one()
            changed_accounts = connection.execute(
                sa.select(accounts).where(accounts.c.revision > revision)
            )
            changed_keys = connection.execute(sa.select(keys).where(keys.c.revision > revision))
            return Changes(
                now,
                tuple(as_account(row) for row in changed_accounts.mappings()),
                tuple(_as_key(row) for row in changed_keys.mappings()),
            )


def _insert(connection: sa.Connection, key: Key, hint: str) -> None:
    connection.execute(
        sa.insert(keys).values(
            id=key.id,
            account_id=key.account_id,
            name=key.name,
            digest=key.digest,
            hint=hint,
            models=_json(key.models),
            budget=key.budget_nanocredits,
            budget_period=key.budget_period,
            created_us=clock.now_us(),
            expires_us=key.expires_us,
            revoked_us=key.revoked_us,
            revision=bump_keys(connection),
        )
    )


def _json(values: Sequence[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))


def _revoke(connection: sa.Connection, key_id: str, revoked_us: int) -> None:
    connection.execute(
        sa.update(keys)
        .where(keys.c.id == key_id)
        .where(sa.or_(keys.c.revoked_us.is_(None), keys.c.revoked_us > revoked_us))
        .values(revoked_us=revoked_us, revision=bump_keys(connection))
    )


def _get(connection: sa.Connection, key_id: str) -> StoredKey:
    return _stored(connection.execute(_WITH_ACCOUNT.where(keys.c.id == key_id)).mappings().one())
