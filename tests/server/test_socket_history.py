"""What sockets remember: by id, and within bounds for one and for all."""

from hypothesis import given
from hypothesis import strategies as st

from farebox.server.socket_history import Histories

A, B = b'{"a":1}', b'{"b":2}'


def test_a_conversation_is_found_by_the_response_that_ended_it():
    """Only by its own socket, until it is cleared."""
    histories = Histories(10_000)
    one, other = histories.open(), histories.open()
    one.remember("resp_1", (A,))
    one.remember("resp_2", (A, B))
    assert (one.find("resp_1"), one.find("resp_2")) == ((A,), (A, B))
    assert other.find("resp_1") is None
    one.clear()
    assert (one.find("resp_2"), histories.size_bytes) == (None, 0)


def test_the_oldest_of_a_socket_gives_way():
    """Also to one that is larger than all there may be, which is not kept either."""
    history = Histories(10_000).open()
    history.remember("resp_1", (b"x" * 4_000,))
    history.remember("resp_2", (b"x" * 4_000,))
    history.remember("resp_3", (b"x" * 4_000,))
    assert [history.find(f"resp_{n}") is None for n in (1, 2, 3)] == [True, False, False]
    history.remember("resp_4", (b"x" * 10_000,))
    assert [history.find(f"resp_{n}") is None for n in (2, 3, 4)] == [True, True, True]


def test_when_many_sockets_are_full_the_one_that_rested_longest_forgets():
    """Eight full ones fit; others lose nothing."""
    histories = Histories(10_000)
    sockets = [histories.open() for _ in range(9)]
    for history in sockets[:8]:
        history.remember("resp_1", (b"x" * 9_000,))
    sockets[0].remember("resp_2", (A,))
    sockets[8].remember("resp_1", (b"x" * 9_000,))
    found = [history.find("resp_1") is not None for history in sockets]
    assert found == [True, False, *[True] * 7]


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 3), st.none() | st.integers(0, 1_500)),
        max_size=60,
    )
)
def test_whatever_is_remembered_the_bounds_hold(steps):
    """For every socket and for all together; what is left after the last has closed is nothing."""
    histories = Histories(1_000)
    sockets = [histories.open() for _ in range(12)]
    for socket, response, size in steps:
        if size is None:
            sockets[socket].clear()
        else:
            sockets[socket].remember(f"resp_{response}", (b"x" * size,))
        held = [
            sum(map(len, items))
            for history in sockets
            for n in range(4)
            if (items := history.find(f"resp_{n}")) is not None
        ]
        assert sum(held) <= histories.size_bytes <= 8_000
    for history in sockets:
        history.clear()
    assert histories.size_bytes == 0
