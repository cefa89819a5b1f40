"""The rows of `usage` that a batch writes: where their parts are, and what they come to.

Amounts are nano-credits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add, itemgetter
from typing import TypeVar

import msgspec
from msgspec.structs import astuple

from farebox.billing.entry import ENTRY_FIELDS
from farebox.billing.jobs import Post
from farebox.store.schema import usage
from farebox.store.tables import Row

HOUR_US = 3_600_000_000

_K = TypeVar("_K", tuple[int, int], tuple[int, str, str, int])

# A row is the entry and these four.
_FIELDS = (*ENTRY_FIELDS, "lease_id", "charge", "absorbed", "settled_us")
assert tuple(column.name for column in usage.columns) == _FIELDS
_at = _FIELDS.index
id_of = itemgetter(_at("request_id"))
account_of = itemgetter(_at("account_id"))
created_of = itemgetter(_at("created_us"))
lease_of = itemgetter(_at("lease_id"))
charge_of = itemgetter(_at("charge"))
absorbed_of = itemgetter(_at("absorbed"))
group_of = itemgetter(*map(_at, ("account_id", "key_id", "model", "lease_id")))
# The tokens by class, then what was charged and what was absorbed.
_summed = itemgetter(*range(_at("uncached_input"), _at("due")), _at("charge"), _at("absorbed"))

Group = tuple[int, str, str, int | None]  # account, key, model and lease of calls
Groups = defaultdict[Group, list[Row]]


def rows_of(posts: Sequence[Post], now_us: int) -> Iterable[Row]:
    """The rows of these calls, in order."""
    entries = [astuple(post.entry) for post in posts]
    amounts = [(post.lease_id, post.charge, post.absorbed, now_us) for post in posts]
    return map(add, entries, amounts)


def grouped(rows: Sequence[Row]) -> Groups:
    """The rows by what they are summed by."""
    groups: Groups = defaultdict(list)
    for group, row in zip(map(group_of, rows), rows, strict=True):
        groups[group].append(row)
    return groups


class Sums(msgspec.Struct):
    """What calls come to: columns of `lease_hours` and `usage_hours`, in the order in which rows
    are locked; by lease, what was charged and how many calls cost something; the hours.
    """

    lease_hours: list[Row]
    usage_hours: list[Row]
    leases: dict[int, tuple[int, int]]
    hours: set[int]


def summed(groups: Mapping[Group, Sequence[Row]]) -> Sums:
    """The sums of these rows."""
    lease_hours: dict[tuple[int, int], Iterable[int]] = {}
    usage_hours: dict[tuple[int, str, str, int], Iterable[int]] = {}
    leases: dict[int, tuple[int, int]] = {}
    for (account_id, key_id, model, lease_id), hour_us, rows in _by_hour(groups):
        columns = tuple(zip(*map(_summed, rows), strict=True))
        sums = (len(rows), *map(sum, columns))
        _add(usage_hours, (account_id, key_id, model, hour_us), sums)
        if lease_id is not None:
            charge = sums[-2]
            _add(lease_hours, (lease_id, hour_us), (len(rows), charge))
            before, calls = leases.get(lease_id, (0, 0))
            leases[lease_id] = (before + charge, calls + len(rows) - columns[-2].count(0))
    return Sums(
        [(*key, *lease_hours[key]) for key in sorted(lease_hours)],
        [(*key, *usage_hours[key]) for key in sorted(usage_hours)],
        leases,
        {key[3] for key in usage_hours},
    )


def _add(sums: dict[_K, Iterable[int]], key: _K, more: Iterable[int]) -> None:
    before = sums.get(key)
    sums[key] = more if before is None else map(add, before, more)


def _by_hour(groups: Mapping[Group, Sequence[Row]]) -> Iterator[tuple[Group, int, Sequence[Row]]]:
    """The groups, cut where their calls began in different hours."""
    for group, rows in groups.items():
        created_us = list(map(created_of, rows))
        hour_us = min(created_us) // HOUR_US * HOUR_US
        if max(created_us) < hour_us + HOUR_US:
            yield group, hour_us, rows
            continue
        hours: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            hours[created_of(row) // HOUR_US * HOUR_US].append(row)
        for each_us, calls in hours.items():
            yield group, each_us, calls
