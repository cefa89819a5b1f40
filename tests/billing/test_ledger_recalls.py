"""Two hosts that want the same credit, and ask each other for it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.billing import messages as m
from tests.billing.ledger_hosts import World

CALLS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 60), st.integers(0, 60)), max_size=6)
STEPS = ("take", "commit", "fail", "hear", "recalls", "end", "tick")


@settings(max_examples=200, deadline=None)
@given(
    calls=CALLS,
    later=CALLS,
    first=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1)), max_size=20),
    order=st.permutations([(step, n) for step in ("take", "commit", "hear") for n in (0, 1)]),
    before_recalls=st.integers(0, 6),
)
def test_hosts_that_recall_each_other_come_to_an_end(
    calls: list[tuple[int, int, int]],
    later: list[tuple[int, int, int]],
    first: list[tuple[str, int]],
    order: list[tuple[str, int]],
    before_recalls: int,
) -> None:
    """Whatever came first, and in whatever order all of it goes on, again and again."""
    world = World(2)
    world.store.credit(1, 100)
    workers = [host.hire() for host in world.hosts]
    for number, asked in enumerate((calls, later)):
        for index, (host, least, more) in enumerate(asked):
            request_id = f"req_{number}_{index}"
            workers[host].hold(m.Hold(request_id, 1, "key", least, least + more))
        for step, host in first:
            _step(world, step, host)
    order.insert(before_recalls, ("recalls", 0))
    for _ in range(10 * (2 + len(calls) + len(later))):
        for step, host in order:
            _step(world, step, host)
    for worker in workers:
        assert worker.asked == {}
    for host in world.hosts:
        assert (host.ledger.jobs, host.batch, host.ledger.recalls) == ([], [], [])
        assert host.ledger.recalled == []
    assert world.recalling == {}, "a token was not told"
    world.store.check()


def _step(world: World, step: str, number: int) -> None:
    host = world.hosts[number]
    worker = host.workers[0]
    if step == "recalls":
        world.carry_recalls()
    elif step == "tick":
        world.clock.now_s += 0.3
        host.ledger.tick(world.clock.now_s)
    elif step == "end":
        for request_id in list(worker.held)[:1]:
            worker.release(request_id)
    else:
        {"take": host.take, "commit": host.commit, "fail": host.fail, "hear": host.hear}[step]()
    host.deliver()
