"""What we use of uvicorn's protocol class, which is no public interface: a new version that has it
otherwise is seen here, before it is seen on a wire.
"""

import ast
import asyncio
import inspect
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http import flow_control
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from farebox.server.asgi import application
from farebox.server.connection import Connection, Flow
from farebox.server.lane import LaneCycle
from farebox.server.protocol import Protocol
from tests.server.worker import make_worker

# What it calls itself and we override, call or do the same as; with what each is given.
METHODS = {
    "__init__": "(self, config, server_state, app_state, _loop=None)",
    "connection_made": "(self, transport)",
    "connection_lost": "(self, exc)",
    "data_received": "(self, data)",
    "eof_received": "(self)",
    "on_message_begin": "(self)",
    "on_url": "(self, url)",
    "on_header": "(self, name, value)",
    "on_headers_complete": "(self)",
    "on_body": "(self, body)",
    "on_message_complete": "(self)",
    "on_response_complete": "(self)",
    "_start_asgi_task": "(self, cycle, app)",
    "_unset_keepalive_if_required": "(self)",
    "timeout_keep_alive_handler": "(self)",
    "shutdown": "(self)",
    "pause_writing": "(self)",
    "resume_writing": "(self)",
}
ATTRIBUTES = {
    "app_state",
    "config",
    "cycle",
    "expect_100_continue",
    "flow",
    "headers",
    "loop",
    "parser",
    "pipeline",
    "server_state",
    "timeout_keep_alive_task",
    "transport",
}
# What it touches of itself in methods that run before its own __init__, or are replaced by ours.
EARLY = {
    "connection_made": {
        "client",
        "connections",
        "flow",
        "logger",
        "scheme",
        "server",
        "transport",
    },
    "connection_lost": {
        "_unset_keepalive_if_required",
        "client",
        "connections",
        "cycle",
        "flow",
        "logger",
        "parser",
        "transport",
    },
    "eof_received": set(),
    "_unset_keepalive_if_required": {"timeout_keep_alive_task"},
    "timeout_keep_alive_handler": {"transport"},
    "shutdown": {"cycle", "transport"},
    "pause_writing": {"flow"},
    "resume_writing": {"flow"},
}
REPLACED = ("connection_made", "connection_lost")
FLOW = {"drain", "pause_reading", "resume_reading", "pause_writing", "resume_writing"}
# Of a cycle, by uvicorn's protocol class: the lane's has these too.
OF_A_CYCLE = {
    "body",
    "disconnected",
    "keep_alive",
    "message_event",
    "more_body",
    "response_complete",
    "run_asgi",
}
# Of these, what it touches only where ours hands the body of a lane's request to take_part(), and
# where ours has it start by itself.
ONLY_OF_UVICORNS = {"body", "run_asgi"}
ONLY_OF_THE_LANES = {"head", "route", "start", "take_part"}


def signature(method):
    """Names and defaults of what it is given."""
    given = inspect.signature(method)
    bare = [each.replace(annotation=each.empty) for each in given.parameters.values()]
    return str(given.replace(parameters=bare, return_annotation=given.empty))


def attributes_of(names, tree):
    """What is asked of these, which are names or attributes of self."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = getattr(owner, "id", None) or getattr(owner, "attr", None)
            if name in names:
                found.add(node.attr)
    return found


def test_its_methods_are_those_that_we_know():
    """None is missing or given something else, and none is new."""
    methods = {
        name: signature(method)
        for name, method in vars(HttpToolsProtocol).items()
        if inspect.isfunction(method) and (name in METHODS or name.startswith(("on_", "_start")))
    }
    assert methods == METHODS


@pytest.mark.anyio
async def test_its_attributes_are_those_that_we_use():
    """Each is set when a connection begins."""
    config = uvicorn.Config(application(make_worker().state), log_config=None, lifespan="off")  # pyright: ignore[reportArgumentType]
    config.load()
    protocol = HttpToolsProtocol(config, ServerState(), {})
    assert vars(protocol).keys() >= ATTRIBUTES
    assert {"total_requests", "connections", "tasks", "default_headers"} == set(vars(ServerState()))
    methods = {name for name, _ in inspect.getmembers(flow_control.FlowControl)}
    assert methods >= FLOW


def test_its_flow_control_is_what_ours_is_like():
    """Ours has every attribute of it, and its event from the first pause on."""
    transport: Any = object()
    theirs, ours = flow_control.FlowControl(transport), Flow(transport)
    assert set(Flow.__slots__) == vars(theirs).keys()
    assert (ours.read_paused, ours.write_paused) == (theirs.read_paused, theirs.write_paused)
    for flow in (theirs, ours):
        flow.resume_writing()  # when nothing was paused yet
        flow.pause_writing()
        assert (flow.write_paused, flow._is_writable_event.is_set()) == (True, False)
    assert attributes_of_self(flow_control.FlowControl.pause_writing) == {
        "write_paused",
        "_is_writable_event",
    }


@pytest.mark.parametrize("name", EARLY)
def test_what_it_may_do_before_its_own_init_needs_no_more_than_our_slots(name):
    """And what ours does in place of it is what it does."""
    touched = attributes_of_self(getattr(HttpToolsProtocol, name))
    assert touched == EARLY[name]
    if name in REPLACED:
        assert name in vars(Connection)
    else:
        assert touched <= set(Connection.__slots__)


def attributes_of_self(method):
    """What a method touches of its object."""
    return attributes_of({"self"}, ast.parse("class _:\n" + inspect.getsource(method)))


@pytest.mark.anyio
async def test_its_own_part_begins_in_the_midst_of_anything():
    """All that there was stays as it is, but for what is its own from the beginning."""
    state = make_worker().state
    config = uvicorn.Config(None, log_config=None, lifespan="off")  # pyright: ignore[reportArgumentType]
    server_state = ServerState()
    protocol = Protocol(state.settings, config=config, server_state=server_state, app_state={})
    transport: Any = asyncio.Transport({"peername": ("127.0.0.2", 7)})
    protocol.connection_made(transport)
    assert server_state.connections == {protocol}
    assert vars(protocol) == {}
    protocol.cycle = cycle = object()
    protocol.flow.read_paused = True
    before = {name: getattr(protocol, name) for name in Connection.__slots__}
    protocol._begin_uvicorns()
    after = {name: getattr(protocol, name) for name in Connection.__slots__}
    assert {name for name in after if after[name] is not before[name]} == {"parser", "pipeline"}
    assert (protocol.cycle, protocol.client) == (cycle, ("127.0.0.2", 7))
    assert vars(protocol).keys() == vars(HttpToolsProtocol(config, server_state, {})).keys() - set(
        Connection.__slots__
    )
    protocol._unset_keepalive_if_required()


def test_a_cycle_of_the_lane_has_what_uvicorn_asks_of_its_own():
    """Whatever its protocol class, or ours, touches of a cycle is there in both."""
    tree = ast.parse(inspect.getsource(HttpToolsProtocol))
    asked = attributes_of({"cycle", "existing_cycle"}, tree)
    assert asked == OF_A_CYCLE
    ours = ast.parse(inspect.getsource(Protocol) + inspect.getsource(Connection))
    asked |= attributes_of({"cycle", "latest", "before", "running", "_running"}, ours)
    assert {name for name in asked if not hasattr(LaneCycle, name)} == ONLY_OF_UVICORNS
    own = inspect.getsource(RequestResponseCycle)
    known = {name for name in asked if f"self.{name} = " in own or f"def {name}(" in own}
    assert asked - known == ONLY_OF_THE_LANES


@pytest.mark.parametrize("name", METHODS)
def test_what_touches_what_only_uvicorns_cycles_have_is_overridden(name):
    """The lane's requests have no body that uvicorn knows, and are served by no application."""
    own = ast.parse("class _:\n" + inspect.getsource(getattr(HttpToolsProtocol, name)))
    if ONLY_OF_UVICORNS & attributes_of({"cycle"}, own):
        assert name in vars(Protocol) or name in vars(Connection)
