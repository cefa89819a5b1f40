"""Who pays, and the keys that they hold."""

from dataclasses import dataclass

BUDGET_PERIODS = ("total", "day", "month")  # by UTC


@dataclass(frozen=True, slots=True)
class Account:
    """One payer. Its money is in the store only; here is what admission needs to know."""

    id: int
    name: str
    group: str
    rate_ppm: int | None  # None: the group's
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """One API key of an account, known by its digest."""

    id: str
    account_id: int
    digest: bytes
    name: str = ""
    models: tuple[str, ...] = ()  # globs over public ids; empty: all
    budget_nanocredits: int | None = None  # what it may be charged in a period; None: no limit
    budget_period: str = "total"  # one of BUDGET_PERIODS
    expires_us: int | None = None
    revoked_us: int | None = None

    def is_valid(self, now_us: int) -> bool:
        """Neither revoked (a roll with overlap revokes in the future) nor expired."""
        if self.revoked_us is not None and now_us >= self.revoked_us:
            return False
        return self.expires_us is None or now_us < self.expires_us


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: the key that was shown and the account that pays."""

    account: Account
    key: Key
