"""`python -m tests.conformance`: the command line and the table. Started by scripts/conformance."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tests.conformance.cases import CASES, Case
from tests.conformance.run import Run, Skipped, Stopped, Target
from tests.conformance.schema import BadDocument, Document
from tests.conformance.wire import Gateway

_MODES = {False: "plain", True: "streamed"}
_MAX_NAMES = 4  # of runs that are named beside a sentence


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Run the cases; the exit code: 0 all well, 1 something failed, 2 wrong arguments."""
    parser = _parser()
    given = parser.parse_args(arguments)
    cases = [case for case in CASES if not given.case or case.name in given.case]
    if unknown := set(given.case) - {case.name for case in CASES}:
        names = ", ".join(f"'{case.name}'" for case in CASES)
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are {names}")
    try:
        document = Document.read(given.schema, given.allow)
    except BadDocument as error:
        parser.error(f"--schema: {error}")
    gateway = Gateway(given.url, given.key)
    target = Target(gateway, given.model, document, given.script, given.ignore)
    return _run_all(target, cases, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/conformance",
        description="Asks a running gateway for responses in every way, plain and streamed, and "
        "compares each object and event with the schema of an OpenAPI document.",
    )
    parser.add_argument("url", help="base URL, ending in /v1")
    parser.add_argument("key", help="API key; what the calls cost is charged to its account")
    parser.add_argument("model", help="model id; with --script one behind a scripted upstream")
    parser.add_argument(
        "--schema",
        type=Path,
        required=True,
        metavar="FILE",
        help="OpenAPI document, YAML or JSON, that describes POST /responses",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="TYPE",
        help="type of events or items that FILE need not know; may be repeated",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PLACE",
        help="place that is not compared, as the report writes it up to the colon; * is any text",
    )
    parser.add_argument(
        "--case", action="append", default=[], metavar="NAME", help="only this case"
    )
    parser.add_argument(
        "--script", action="store_true", help="prompts are the lines of a scripted upstream"
    )
    return parser


def _run_all(target: Target, cases: Sequence[Case], out: TextIO) -> int:
    report = _Report()
    out.write(f"{'case':<38}{'plain':<10}streamed\n")
    for case in cases:
        words = {False: "-", True: "-"}
        for mode in case.modes:
            run = Run(target, stream=mode)
            words[mode], why = _outcome(case, run)
            report.add(f"{case.name} ({_MODES[mode]})", words[mode], why, run)
        out.write(f"{case.name:<38}{words[False]:<10}{words[True]}\n")
        out.flush()
    out.write(report.text())
    return 1 if report.counts["failed"] else 0


@dataclass
class _Report:
    """What stands below the table: each sentence once, with the runs in which it was true."""

    counts: Counter[str] = field(default_factory=Counter[str])
    problems: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    ignored: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    skipped: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def add(self, name: str, word: str, why: str, run: Run) -> None:
        self.counts[word] += 1
        found = ((self.problems, run.problems), (self.ignored, run.passed_over))
        for sentences, those in (*found, (self.skipped, [why] if why else [])):
            for sentence in those:
                sentences.setdefault(sentence, []).append(name)

    def text(self) -> str:
        lines = list[str]()
        parts = {"failed": self.problems, "skipped": self.skipped, "ignored": self.ignored}
        for title, sentences in parts.items():
            lines += ["", f"{title}:"] if sentences else []
            for sentence, names in sentences.items():
                more = len(names) - _MAX_NAMES
                listed = ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
                lines += [f"  {sentence}", f"      in {listed}"]
        numbers = ", ".join(f"{self.counts[word]} {word}" for word in ("ok", "failed", "skipped"))
        return "\n".join([*lines, "", numbers, ""])


def _outcome(case: Case, run: Run) -> tuple[str, str]:
    """`ok`, `failed` or `skipped`, and why it was skipped."""
    why = ""
    try:
        case.ask(run)
    except Stopped:
        pass
    except Skipped as reason:
        why = str(reason)
    except OSError as error:
        run.expect(False, f"the gateway cannot be reached: {error}")
    if run.problems:
        return "failed", ""
    return ("skipped", why) if why else ("ok", "")


if __name__ == "__main__":
    sys.exit(main())
