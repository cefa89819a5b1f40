"""What we use of uvicorn's protocol class, which is no public interface: a new version that has it
otherwise is seen here, before it is seen on a wire.
"""

import ast
import inspect

import pytest
import uvicorn
from uvicorn.protocols.http import flow_control
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from farebox.server.asgi import application
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
    "connections",
    "cycle",
    "expect_100_continue",
    "flow",
    "headers",
    "loop",
    "parser",
    "pipeline",
    "server_state",
    "tasks",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
}
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
    assert "write_paused" in inspect.getsource(flow_control.FlowControl.__init__)


def test_a_cycle_of_the_lane_has_what_uvicorn_asks_of_its_own():
    """Whatever its protocol class, or ours, touches of a cycle is there in both."""
    tree = ast.parse(inspect.getsource(HttpToolsProtocol))
    asked = attributes_of({"cycle", "existing_cycle"}, tree)
    assert asked == OF_A_CYCLE
    ours = ast.parse(inspect.getsource(Protocol))
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
        assert name in vars(Protocol)
