"""Starts a process of the gateway: `python -m farebox.launch farebox.app …` runs that module.

What is here has to be done before the first of its imports. The process itself says when it is
ready, and the garbage collector begins: core/collector.py.
"""

import gc
import importlib
import sys

# structlog takes it if it is there, for tracebacks in colour. Ours are plain, and it takes more
# time to import than all the rest of structlog.
_UNWANTED = "rich"


def main() -> None:
    """Run the module that is named first; the other arguments are its own."""
    gc.disable()
    sys.modules[_UNWANTED] = None  # pyright: ignore[reportArgumentType] (Python takes it for "not there")
    importlib.import_module(sys.argv.pop(1)).main()


if __name__ == "__main__":
    main()
