"""Counts the tries of a fault, and formats the counts as a table."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_SHOWN = 4
_START = time.monotonic()
COLUMNS = ("fault", "tries", "acknowledged", "lost", "recovered", "named", "note")


@dataclass
class Tally:
    """What happened in all tries of one fault.

    Attributes
    ----------
    acknowledged
        Facts that a command or a reply had acknowledged, and that were looked for afterwards.
    lost
        Those of them that were not there, or had another value.
    recovered
        Tries after which everything worked again, without a repair by a person other than what the error names.
    named
        Tries in which an error named the damaged or missing object; None where nothing has to be named.
    unused
        Tries in which the damaged bytes were of no value, so that nothing could be named.
    is_repaired
        Whether there is anything to recover after the fault.
    problems
        Each loss and each try without a recovery, as a line of text.
    """

    fault: str
    tries: int = 0
    acknowledged: int = 0
    lost: int = 0
    recovered: int = 0
    named: int | None = None
    note: str = ""
    unused: int = 0
    is_repaired: bool = True
    problems: list[str] = field(default_factory=list)

    def add(
        self,
        what: str,
        *,
        acknowledged: int = 0,
        lost: Sequence[str] = (),
        broken: Sequence[str] = (),
        named: bool | None = None,
    ) -> None:
        """Count one try: `lost` facts, and the problems for which it is `broken` afterwards."""
        self.tries += 1
        self.acknowledged += acknowledged
        self.lost += len(lost)
        self.recovered += not broken
        if named is not None:
            self.named = (self.named or 0) + named
        unnamed = ["it was not named"] if named is False else []
        for problem in (*(f"LOST {text}" for text in lost), *broken, *unnamed):
            self.problems.append(f"{what}: {problem}")
            report(f"  ! {self.fault}: {what}: {problem}")


def report(line: str) -> None:
    """Print a line of progress on stderr, with the seconds since the start."""
    print(f"{time.monotonic() - _START:7.1f} s  {line}", file=sys.stderr, flush=True)


def format_table(tallies: Sequence[Tally]) -> str:
    """Return a Markdown table with a row for each fault, and the problems below it."""
    rows = [COLUMNS, *(_to_row(tally) for tally in tallies)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    problems = [f"- {tally.fault}: {problem}" for tally in tallies for problem in _shorten(tally.problems)]
    return "\n".join((*lines, "", *problems)).rstrip()


def _shorten(problems: Sequence[str]) -> Sequence[str]:
    """Return the first problems, each in one short line, and the number of the others."""
    counts = Counter(" ".join(problem.split())[:240] for problem in problems)
    lines = [f"{line} ({count} times)" if count > 1 else line for line, count in counts.items()]
    return [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else lines


def _to_row(tally: Tally) -> tuple[str, ...]:
    if not tally.tries:
        return (tally.fault, "0", "–", "–", "–", "–", tally.note or "not tried")
    named = "–" if tally.named is None else str(tally.named)
    counts = (tally.tries, tally.acknowledged, tally.lost, tally.recovered)
    cells = [f"{count:,}" for count in counts]
    if not tally.is_repaired:
        cells[1:] = ["–", "–", "–"]
    return (tally.fault, *cells, named, tally.note)
