"""What an operator does with API keys. A secret is returned once, when it is made, never kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from farebox.admin import accounts
from farebox.admin.durations import parse_moment_us, parse_span_us
from farebox.admin.errors import Conflict
from farebox.core import clock, ids
from farebox.core.account import BUDGET_PERIODS, Key
from farebox.core.money import parse_credits
from farebox.errors import BadRequest, NotFound
from farebox.store import Store
from farebox.store.keys import StoredKey

_MAX_NAME_CHARS = 64
_MAX_GLOBS = 100
_MAX_GLOB_CHARS = 200


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as it may be shown; `secret` only at the moment when it is made."""

    stored: StoredKey
    secret: str | None = None
    spent_nanocredits: int = 0  # of its budget, in the present period

    def as_dict(self) -> dict[str, Any]:
        """The key for machines."""
        key = self.stored.key
        return {
            "id": key.id,
            **({"key": self.secret} if self.secret else {}),
            "account": self.stored.account,
            "name": key.name,
            "hint": self.stored.hint,
            "models": list(key.models),
            "budget_nanocredits": key.budget_nanocredits,
            "budget_period": None if key.budget_nanocredits is None else key.budget_period,
            "budget_spent_nanocredits": (
                None if key.budget_nanocredits is None else self.spent_nanocredits
            ),
            "created_at": clock.rfc3339(self.stored.created_us),
            "expires_at": _time(key.expires_us),
            "revoked_at": _time(key.revoked_us),
        }


def _time(time_us: int | None) -> str | None:
    return None if time_us is None else clock.rfc3339(time_us)


def create(  # noqa: PLR0913 (a key has this many limits)
    store: Store,
    pepper: bytes,
    account: str,
    *,
    name: str = "",
    models: Iterable[str] = (),
    expires: str | None = None,
    budget: str | None = None,
    per: str | None = None,
) -> KeyView:
    """A new key of an account, with its secret. `budget`: credits that it may be charged `per`
    total, day or month (UTC). Raises NotFound, BadRequest, BadAmount.
    """
    now_us = clock.now_us()
    owner = accounts.find(store, account)
    expires_us = None if expires is None else parse_moment_us(expires, "--expires", now_us)
    if expires_us is not None and expires_us <= now_us:
        raise BadRequest(f"--expires {expires!r} is not in the future.")
    if per is not None and budget is None:
        raise BadRequest("--per needs a --budget, which it says the period of.")
    secret = ids.new_key()
    key = Key(
        id=ids.new_id("key"),
        account_id=owner.id,
        digest=ids.key_digest(pepper, secret),
        name=_name(name),
        models=_globs(models),
        expires_us=expires_us,
        budget_nanocredits=None if budget is None else _budget(budget),
        budget_period=_period(per or "total"),
    )
    return KeyView(store.create_key(key, ids.key_hint(secret)), secret)


def listing(store: Store, account: str | None = None) -> list[KeyView]:
    """All keys, or those of one account, oldest first. Raises NotFound for the account."""
    owner = None if account is None else accounts.find(store, account).id
    return _views(store, store.keys(owner))


def show(store: Store, key_id: str) -> KeyView:
    """One key. Raises NotFound."""
    return _view(store, _find(store, key_id))


def change(
    store: Store,
    key_id: str,
    *,
    budget: str | None = None,
    per: str | None = None,
    no_budget: bool = False,
) -> KeyView:
    """Give a key another budget, another period of the one that it has, or none.

    What it was charged in the present period already counts. Raises NotFound, BadRequest,
    BadAmount.
    """
    if no_budget and not (budget is None and per is None):
        raise BadRequest("--no-budget takes neither --budget nor --per beside it.")
    if not no_budget and budget is None and per is None:
        raise BadRequest("Nothing to change: name a --budget, a --per, or --no-budget.")
    key = _find(store, key_id).key
    nanocredits = key.budget_nanocredits if budget is None else _budget(budget)
    if no_budget:
        return _view(store, store.set_budget(key_id, None, "total"))
    if nanocredits is None:
        raise BadRequest(f"Key {key_id!r} has no budget: name one beside --per.")
    period = key.budget_period if per is None else _period(per)
    return _view(store, store.set_budget(key_id, nanocredits, period))


def revoke(store: Store, key_id: str) -> KeyView:
    """Refuse the key from now on. Again is no error. Raises NotFound."""
    _find(store, key_id)
    return _view(store, store.revoke_key(key_id, clock.now_us()))


def _view(store: Store, stored: StoredKey) -> KeyView:
    (view,) = _views(store, [stored])
    return view


def _views(store: Store, keys: Iterable[StoredKey]) -> list[KeyView]:
    now_us = clock.now_us()
    starts_us = {period: clock.period_start_us(period, now_us) for period in BUDGET_PERIODS}
    spent = store.budgets_spent(starts_us)
    return [KeyView(stored, spent_nanocredits=spent.get(stored.key.id, 0)) for stored in keys]


def roll(store: Store, pepper: bytes, key_id: str, overlap: str = "0") -> KeyView:
    """A successor with the same limits and another secret; the old key works for `overlap` more.

    Raises NotFound, BadRequest, and Conflict for a key that is revoked or expired.
    """
    now_us = clock.now_us()
    overlap_us = parse_span_us(overlap, "--overlap")
    old = _find(store, key_id).key
    if old.revoked_us is not None or not old.is_valid(now_us):
        raise Conflict(f"Key {key_id!r} is revoked or expired. Create a new key instead.")
    secret = ids.new_key()
    # The same limits, whichever there are.
    successor = replace(old, id=ids.new_id("key"), digest=ids.key_digest(pepper, secret))
    stored = store.roll_key(key_id, now_us + overlap_us, successor, ids.key_hint(secret))
    return KeyView(stored, secret)


def _find(store: Store, key_id: str) -> StoredKey:
    stored = store.key(key_id)
    if stored is None:
        # Somebody may have pasted the secret itself: it is not repeated.
        shown = ids.key_hint(key_id) if key_id.startswith(ids.KEY_PREFIX) else repr(key_id)
        raise NotFound(f"There is no key {shown}. `farebox keys list` shows the ids (key_…).")
    return stored


def _budget(text: str) -> int:
    budget = parse_credits(text, "--budget")
    if budget <= 0:
        raise BadRequest(f"--budget {text!r} is not above zero. `farebox keys revoke` ends a key.")
    return budget


def _period(text: str) -> str:
    if text not in BUDGET_PERIODS:
        raise BadRequest(f"--per {text!r} is not one of {', '.join(BUDGET_PERIODS)}.")
    return text


def _name(name: str) -> str:
    if len(name) > _MAX_NAME_CHARS or not name.isprintable():
        raise BadRequest(
            f"A key's name has at most {_MAX_NAME_CHARS} characters, all of them printable."
        )
    return name


def _globs(models: Iterable[str]) -> tuple[str, ...]:
    parts = list(models)
    globs = tuple(glob for part in parts for glob in map(str.strip, part.split(",")) if glob)
    if len(globs) > _MAX_GLOBS or any(len(glob) > _MAX_GLOB_CHARS for glob in globs):
        raise BadRequest(
            f"--models takes at most {_MAX_GLOBS} patterns of {_MAX_GLOB_CHARS} characters."
        )
    # Nothing but commas would mean "all models" to the key, which is not what was asked.
    if parts and not globs:
        raise BadRequest("--models names no model. Leave it out to allow all.")
    return globs
