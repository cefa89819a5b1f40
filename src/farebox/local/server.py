"""The process of the embedded model: llama.cpp's own OpenAI-compatible server on loopback.

`python -m farebox.local.server` reads one JSON line on standard input, `{"port": …, "api_key": …}`,
and serves until its standard input ends, which is when its parent has died or wants it to stop.
SIGTERM ends it at once. It writes its log to standard error. Who starts and watches it is the
supervisor's business. It fetches nothing: the weights are a local file, and the server is told
to stay offline.
"""

import json
import os
import select
import sys
from importlib import import_module
from typing import Any

from farebox.local.model import MODEL_ID, SLOT_TOKENS, SLOTS, gguf_path

MAX_LOG_BYTES = 1024 * 1024
_LOG_CHECK_S = 60.0
_NICENESS = 5  # the gateway's own work goes first
_HTTP_THREADS = 256  # they cost little but address space
_ERRORS = 1  # of llama.cpp's levels of verbosity; it warns several times a call


def _cores() -> int:
    # Only Linux tells which cores this process may use.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _runtime() -> Any:
    # It has no type stubs, takes a while to load, and is there only with the extra `local`.
    return import_module("xllamacpp")


def parameters(port: int, api_key: str) -> Any:
    """llama.cpp's parameters (`common_params` in its common/common.h) for our one model."""
    params: Any = _runtime().CommonParams()
    params.model.path = str(gguf_path())
    params.model_alias = {MODEL_ID}
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    params.ctx_shift = False  # an answer that fills its slot ends with "length"
    params.use_jinja = True  # the chat template that the weights carry
    params.hostnames = ["127.0.0.1"]
    params.port = port
    # A call that waits for a slot holds a thread; with none left, nobody could ask for its health.
    params.n_threads_http = _HTTP_THREADS
    params.reuse_port = True  # the parent keeps the port reserved with a socket of its own
    params.api_keys = [api_key]
    params.offline = True
    params.ui = False
    params.endpoint_slots = False  # it would show one caller's prompt to another
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts
    params.verbosity = _ERRORS
    # Answers leave a core to the gateway. Prompts are read in bursts, and twice as fast with all.
    params.cpuparams.n_threads = max(1, _cores() - 1)
    params.cpuparams_batch.n_threads = _cores()
    return params


def _read_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(fd, 4096)
        if not part:
            break
        line += part
    return line


def _wait_for_end_of(fd: int, log_fd: int) -> None:
    """Return when `fd` ends; until then keep the log file in its bounds."""
    while True:
        readable, _, _ = select.select([fd], [], [], _LOG_CHECK_S)
        if readable and not os.read(fd, 4096):
            return
        # The file is open for appending, so writing goes on at its new end. A pipe has size 0.
        if os.fstat(log_fd).st_size > MAX_LOG_BYTES:
            os.ftruncate(log_fd, 0)


def main() -> None:
    """Serve until standard input ends."""
    stdin, stderr = sys.stdin.fileno(), sys.stderr.fileno()
    line = _read_line(stdin)
    if not line:
        return  # the parent died before it said anything
    wanted = json.loads(line)
    os.nice(_NICENESS)
    # It returns when the model is loaded and the port listens, and raises RuntimeError otherwise.
    server: Any = _runtime().Server(parameters(wanted["port"], wanted["api_key"]))
    sys.stderr.write(f"Serving {MODEL_ID} on {server.listening_address}.\n")
    sys.stderr.flush()
    _wait_for_end_of(stdin, stderr)
    # Tearing the server down would first wait for the answers in flight, which nobody reads.
    os._exit(0)


if __name__ == "__main__":
    main()
