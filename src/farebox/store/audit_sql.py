"""The statements of the audit, for SQLite and PostgreSQL alike: each finds what must not be there.

`total` is how many rows there are beside those that are given. What the invariants mean is told in
docs/billing.md.
"""

from __future__ import annotations

import sqlalchemy as sa

from farebox.core.usage import CLASSES

ROWS = 100  # of each statement that are shown

# Whose side a transfer's two ends are on must be what its kind says.
_SIDES = """
    CASE kind
    WHEN 'top_up' THEN debit = 'operator:credits' AND credit = 'account:' || account_id
    WHEN 'refund' THEN debit = 'operator:credits' AND credit = 'account:' || account_id
    WHEN 'debit' THEN debit = 'account:' || account_id AND credit = 'operator:credits'
    WHEN 'lease_grant' THEN debit = 'account:' || account_id AND credit = 'lease:' || lease_id
    WHEN 'lease_return' THEN debit = 'lease:' || lease_id AND credit = 'account:' || account_id
    WHEN 'charge' THEN debit = 'lease:' || lease_id AND credit = 'operator:revenue'
    WHEN 'absorbed' THEN debit = 'operator:absorbed' AND credit = 'operator:unpaid'
    WHEN 'lost' THEN debit = 'lease:' || lease_id AND credit = 'operator:lost'
    WHEN 'correction' THEN corrects IS NOT NULL
    ELSE 1 = 0 END
"""

# credited = available + unspent leases + charged + lost, and both are what their transfers say.
ACCOUNTS = sa.text(f"""
    WITH moved AS (
        SELECT account_id,
            sum(CASE WHEN credit = 'account:' || account_id THEN amount
                WHEN debit = 'account:' || account_id THEN -amount ELSE 0 END) AS available,
            sum(CASE WHEN kind NOT IN ('top_up', 'debit', 'refund', 'correction') THEN 0
                WHEN credit = 'account:' || account_id THEN amount
                WHEN debit = 'account:' || account_id THEN -amount ELSE 0 END) AS credited,
            sum(CASE WHEN kind = 'lost' THEN amount ELSE 0 END) AS lost,
            sum(CASE WHEN {_SIDES} THEN 0 ELSE 1 END) AS misfits
        FROM transfers GROUP BY account_id
    ), leased AS (
        SELECT account_id, sum(granted - spent - returned) AS unspent FROM leases
        WHERE state IN ('open', 'draining') GROUP BY account_id
    ), used AS (
        SELECT account_id, sum(charge) AS charged FROM usage_hours GROUP BY account_id
    ), sums AS (
        SELECT a.id, a.name, a.credited, a.available,
            coalesce(leased.unspent, 0) AS unspent, coalesce(used.charged, 0) AS charged,
            coalesce(moved.lost, 0) AS lost, coalesce(moved.credited, 0) AS moved_credited,
            coalesce(moved.available, 0) AS moved_available, coalesce(moved.misfits, 0) AS misfits
        FROM accounts a LEFT JOIN moved ON moved.account_id = a.id
        LEFT JOIN leased ON leased.account_id = a.id LEFT JOIN used ON used.account_id = a.id
    )
    SELECT id AS account_id, name AS account, credited AS credited_nanocredits,
        available AS available_nanocredits, unspent AS unspent_nanocredits,
        charged AS charged_nanocredits, lost AS lost_nanocredits,
        moved_credited AS credited_by_transfers_nanocredits,
        moved_available AS available_by_transfers_nanocredits,
        misfits AS transfers_between_wrong_sides, count(*) OVER () AS total
    FROM sums
    WHERE credited <> available + unspent + charged + lost OR credited <> moved_credited
        OR available <> moved_available OR misfits <> 0
    ORDER BY id LIMIT {ROWS}
""")
# Roll-ups refer to no account by the schema, nor do transfers on PostgreSQL.
NO_ACCOUNT = sa.text(f"""
    SELECT account_id, sum(calls) AS calls, sum(charge) AS charge_nanocredits,
        sum(transfers) AS transfers, count(*) OVER () AS total
    FROM (
        SELECT account_id, calls, charge, 0 AS transfers FROM usage_hours
        UNION ALL SELECT account_id, 0, 0, 1 FROM transfers
    ) both_sides
    WHERE account_id NOT IN (SELECT id FROM accounts)
    GROUP BY account_id ORDER BY account_id LIMIT {ROWS}
""")

FLOORS = sa.text(f"""
    SELECT id AS account_id, name AS account, available AS available_nanocredits,
        credit_limit AS credit_limit_nanocredits, count(*) OVER () AS total
    FROM accounts WHERE available < -credit_limit ORDER BY id LIMIT {ROWS}
""")

LEASES = sa.text(f"""
    WITH hours AS (
        SELECT lease_id, sum(charge) AS charge FROM lease_hours GROUP BY lease_id
    ), moved AS (
        SELECT lease_id,
            sum(CASE kind WHEN 'charge' THEN amount ELSE 0 END) AS charged,
            sum(CASE kind WHEN 'lease_grant' THEN amount ELSE 0 END) AS granted,
            sum(CASE kind WHEN 'lease_return' THEN amount ELSE 0 END) AS returned,
            sum(CASE kind WHEN 'lost' THEN amount ELSE 0 END) AS lost
        FROM transfers WHERE lease_id IS NOT NULL GROUP BY lease_id
    ), sums AS (
        SELECT l.id, l.account_id, l.owner, l.state, l.granted, l.spent, l.returned,
            coalesce(hours.charge, 0) AS by_hours, coalesce(moved.charged, 0) AS charged,
            coalesce(moved.granted, 0) AS moved_granted,
            coalesce(moved.returned, 0) AS moved_returned, coalesce(moved.lost, 0) AS lost
        FROM leases l LEFT JOIN hours ON hours.lease_id = l.id
        LEFT JOIN moved ON moved.lease_id = l.id
    )
    SELECT id AS lease_id, account_id, owner, state, granted AS granted_nanocredits,
        spent AS spent_nanocredits, returned AS returned_nanocredits, lost AS lost_nanocredits,
        by_hours AS spent_by_hours_nanocredits, charged AS spent_by_transfers_nanocredits,
        moved_granted AS granted_by_transfers_nanocredits,
        moved_returned AS returned_by_transfers_nanocredits, count(*) OVER () AS total
    FROM sums
    WHERE spent <> by_hours OR spent <> charged OR granted <> moved_granted
        OR returned <> moved_returned OR spent + returned + lost > granted
        OR (state IN ('closed', 'lost') AND spent + returned + lost <> granted)
        OR (state <> 'lost' AND lost <> 0)
        OR state NOT IN ('open', 'draining', 'closed', 'lost')
    ORDER BY id LIMIT {ROWS}
""")
NO_LEASE = sa.text(f"""
    SELECT lease_id, sum(calls) AS calls, sum(charge) AS charge_nanocredits,
        count(*) OVER () AS total
    FROM lease_hours WHERE lease_id NOT IN (SELECT id FROM leases)
    GROUP BY lease_id ORDER BY lease_id LIMIT {ROWS}
""")
# By the calls' side, since there is no index of lease_hours by the hour. What stands there beyond
# the calls is missed in the sums of LEASES and of REVENUE.
LEASE_HOUR = sa.text(f"""
    WITH calls AS (
        SELECT lease_id, count(*) AS calls, sum(charge) AS charge,
            min(account_id) AS first_account, max(account_id) AS last_account
        FROM usage WHERE created_us >= :hour_us AND created_us < :until_us
            AND (lease_id IS NOT NULL OR charge <> 0)
        GROUP BY lease_id
    )
    SELECT calls.lease_id, l.account_id, h.calls AS calls_of_lease_hour,
        h.charge AS charge_of_lease_hour_nanocredits, calls.calls,
        calls.charge AS charge_nanocredits, count(*) OVER () AS total
    FROM calls LEFT JOIN lease_hours h ON h.lease_id = calls.lease_id AND h.hour_us = :hour_us
    LEFT JOIN leases l ON l.id = calls.lease_id
    WHERE l.id IS NULL OR h.lease_id IS NULL OR h.calls <> calls.calls
        OR h.charge <> calls.charge OR l.account_id <> first_account
        OR l.account_id <> last_account
    ORDER BY calls.lease_id LIMIT {ROWS}
""")

REJECTED = sa.text(f"""
    SELECT u.request_id, u.account_id, u.charge AS charge_nanocredits, r.error AS rejected_for,
        count(*) OVER () AS total
    FROM settle_rejected r JOIN usage u ON u.request_id = r.request_id
    ORDER BY u.request_id LIMIT {ROWS}
""")
# The primary key forbids it. A damaged index does not, and then the two are told apart here.
TWICE = sa.text(f"""
    SELECT request_id, count(*) AS usage_rows, count(*) OVER () AS total
    FROM usage GROUP BY request_id HAVING count(*) > 1 ORDER BY request_id LIMIT {ROWS}
""")

_SUMS = ("calls", *CLASSES, "charge", "absorbed")
_ROLLED = ", ".join(f"sum(rolled_{name}) AS rolled_{name}" for name in _SUMS)
_RAW = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
_AS_ROLLED = ", ".join(f"{name} AS rolled_{name}" for name in _SUMS)
_ZEROS = ", ".join(f"0 AS {name}" for name in _SUMS)
_NOTHING_ROLLED = ", ".join("0" for _ in _SUMS)
_OF_A_CALL = ", ".join(("1", *_SUMS[1:]))
_DIFFER = " OR ".join(f"sum(rolled_{name}) <> sum({name})" for name in _SUMS)
HOUR = sa.text(f"""
    SELECT account_id, key_id, model, {_ROLLED}, {_RAW}, count(*) OVER () AS total FROM (
        SELECT account_id, key_id, model, {_AS_ROLLED}, {_ZEROS} FROM usage_hours
        WHERE hour_us = :hour_us
        UNION ALL SELECT account_id, key_id, model, {_NOTHING_ROLLED}, {_OF_A_CALL} FROM usage
        WHERE created_us >= :hour_us AND created_us < :until_us
    ) both_sides
    GROUP BY account_id, key_id, model HAVING {_DIFFER}
    ORDER BY account_id, key_id, model LIMIT {ROWS}
""")
NO_KEY = sa.text(f"""
    SELECT used.account_id, used.key_id, k.account_id AS key_is_of_account,
        count(*) OVER () AS total
    FROM (SELECT DISTINCT account_id, key_id FROM usage_hours) used
    LEFT JOIN keys k ON k.id = used.key_id
    WHERE k.id IS NULL OR k.account_id <> used.account_id
    ORDER BY used.account_id, used.key_id LIMIT {ROWS}
""")
# Roll-ups of a sealed hour. Calls that came when its rows had been dropped are in the roll-ups and
# not in the seal.
SEALED = sa.text("""
    SELECT s.hour_us, s.calls, s.charge, s.checksum, s.dropped_us,
        coalesce(sum(h.calls), 0) AS rolled_calls, coalesce(sum(h.charge), 0) AS rolled_charge
    FROM sealed_hours s LEFT JOIN usage_hours h ON h.hour_us = s.hour_us
    GROUP BY s.hour_us, s.calls, s.charge, s.checksum, s.dropped_us ORDER BY s.hour_us
""")
_SIGNED = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
_LESS_A_CALL = ", ".join(("-1", *(f"-{name}" for name in _SUMS[1:])))
_COLUMNS = ", ".join(_SUMS)
ROLL_UPS = sa.text(f"""
    SELECT account_id, key_id, model, {_COLUMNS} FROM usage_hours WHERE hour_us = :hour_us
""")
ROLL_UPS_LESS_CALLS = sa.text(f"""
    SELECT account_id, key_id, model, {_SIGNED} FROM (
        SELECT account_id, key_id, model, {_COLUMNS} FROM usage_hours WHERE hour_us = :hour_us
        UNION ALL SELECT account_id, key_id, model, {_LESS_A_CALL} FROM usage
        WHERE created_us >= :hour_us AND created_us < :until_us
    ) both_sides
    GROUP BY account_id, key_id, model HAVING sum(calls) <> 0
""")

REVENUE = sa.text(f"""
    SELECT account_id, sum(charge) AS charge_nanocredits,
        sum(moved) AS charge_by_transfers_nanocredits, sum(absorbed) AS absorbed_nanocredits,
        sum(moved_absorbed) AS absorbed_by_transfers_nanocredits, count(*) OVER () AS total
    FROM (
        SELECT account_id, charge, absorbed, 0 AS moved, 0 AS moved_absorbed FROM usage_hours
        UNION ALL SELECT account_id, 0, 0, amount, 0 FROM transfers WHERE kind = 'charge'
        UNION ALL SELECT account_id, 0, 0, 0, amount FROM transfers WHERE kind = 'absorbed'
    ) both_sides
    GROUP BY account_id HAVING sum(charge) <> sum(moved) OR sum(absorbed) <> sum(moved_absorbed)
    ORDER BY account_id LIMIT {ROWS}
""")

# PostgreSQL only: with SQLite an owner is known to live by the lock that it holds.
OVERDUE = sa.text(f"""
    SELECT l.id AS lease_id, l.account_id, l.owner, o.state AS owner_state,
        l.granted - l.spent - l.returned AS unspent_nanocredits,
        o.heartbeat_us AS owner_heard_us, count(*) OVER () AS total
    FROM leases l LEFT JOIN owners o ON o.id = l.owner
    WHERE l.state = 'open' AND (o.id IS NULL
        OR o.heartbeat_us < extract(epoch FROM clock_timestamp()) * 1000000 - :patience_us)
    ORDER BY l.id LIMIT {ROWS}
""")
DRAINING = sa.text(f"""
    SELECT l.id AS lease_id, a.name AS account, l.owner,
        l.granted - l.spent - l.returned AS unspent_nanocredits, count(*) OVER () AS total
    FROM leases l LEFT JOIN accounts a ON a.id = l.account_id
    WHERE l.state = 'draining' ORDER BY l.id LIMIT {ROWS}
""")
