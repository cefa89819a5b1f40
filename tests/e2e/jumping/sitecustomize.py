"""A wall clock that jumps: on the PYTHONPATH of a process, it is wrong by what a file says.

Python runs this at the start of each process. The monotonic clock is left alone, as it is when an
operator, or a time service, sets the clock of a machine.
"""

import os
import time
from pathlib import Path

_file = Path(os.environ["JUMPED_S_FILE"])
_time, _time_ns = time.time, time.time_ns


def _jumped_s() -> int:
    return int(_file.read_text(encoding="utf-8") or "0")


time.time = lambda: _time() + _jumped_s()
time.time_ns = lambda: _time_ns() + _jumped_s() * 10**9
