"""The benchmark: what a call and an event cost beside nginx and other gateways.

Run by scripts/bench, from the project's folder: python -m bench [--rounds 3] [--seconds 2] …
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import msgspec

from bench import report, soak
from bench.cases import Options
from bench.compiler import NoCompiler, compile_programs
from bench.peers import PEERS
from bench.run import Bench, bench


@contextmanager
def _bench(options: Options) -> Generator[Bench]:
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as folder:
        try:
            programs = compile_programs()
        except NoCompiler as error:
            sys.exit(str(error))
        with bench(options, Path(folder), programs) as made:
            yield made


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    defaults = Options()
    for field in fields(Options):
        default = getattr(defaults, field.name)
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results.json"))
    parser.add_argument(
        "--peers",
        nargs="?",
        const=",".join(PEERS),
        default="",
        metavar="NAMES",
        help=f"other gateways too, which are installed in the cache folder; {','.join(PEERS)}",
    )
    parser.add_argument(
        "--paced", type=int, metavar="STREAMS", help="only this: so many streams for --seconds"
    )
    parser.add_argument(
        "--soak", type=float, metavar="MINUTES", help="only this: half of full load for so long"
    )
    return parser


def main() -> None:
    """Measure, write the JSON, print the table."""
    given = vars(_parser().parse_args())
    output: Path = given.pop("output")
    peers = [name for name in given.pop("peers").split(",") if name]
    paced, minutes = given.pop("paced"), given.pop("soak")
    with _bench(Options(**given)) as made:
        if paced or minutes:
            endurance = soak.streams(made, paced) if paced else soak.soak(made, minutes)
            print(soak.markdown(endurance, made.results.facts))
            sys.exit(0 if endurance.is_good else 1)
        results = made.run(peers)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    print(report.markdown(results))


if __name__ == "__main__":
    main()
