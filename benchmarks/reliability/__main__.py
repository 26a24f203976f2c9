"""What faults do to a project: `python -m benchmarks.reliability [--quick] [--only PART]`.

It kills commands and services, damages files, fills the disk and moves stores away, on real projects, and counts the
acknowledged facts that are lost, the tries after which everything works again, and those whose error names the object.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._report import describe_commit, describe_machine, write_between
from benchmarks.reliability.child import import_all
from benchmarks.reliability.damage import try_damage
from benchmarks.reliability.full_disk import try_full_disks
from benchmarks.reliability.kills import try_kills
from benchmarks.reliability.moved import try_moves
from benchmarks.reliability.planting import try_plants
from benchmarks.reliability.service import try_daemon_kills, try_service_kills
from benchmarks.reliability.shop import Yard
from benchmarks.reliability.tally import Tally, format_table, report
from benchmarks.reliability.tampering import try_edits
from tests.parts import PartMissing, postgres

_PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_MANY = 10
"""More tries than this are worth the seconds to import everything before them."""


class Part(NamedTuple):
    """A part of the benchmark, with the number of its tries in a full and in a quick run."""

    try_all: Callable[[Sequence[Yard], int, random.Random], list[Tally]]
    full: int
    quick: int
    on_servers: bool = False
    estimator: str = "tree"


PARTS = {
    "kills": Part(try_kills, 900, 36, on_servers=True),
    "services": Part(try_service_kills, 80, 8, on_servers=True, estimator="lightgbm"),
    "daemons": Part(try_daemon_kills, 20, 2, on_servers=True, estimator="lightgbm"),
    "damage": Part(try_damage, 300, 30, estimator="lightgbm"),
    "disk": Part(try_full_disks, 20, 8),
    "moves": Part(try_moves, 20, 2, estimator="lightgbm"),
    "edits": Part(try_edits, 100, 28),
    "secrets": Part(try_plants, 2, 1, on_servers=True),
}


def measure(
    parts: Sequence[str], *, quick: bool, seed: int, tries: int = 0, shop: Path | None = None, only_sqlite: bool = False
) -> list[Tally]:
    """Run the parts and return their counts; `shop` is a folder that keeps the shop for the next run."""
    tallies = []
    counts = {name: tries or (PARTS[name].quick if quick else PARTS[name].full) for name in parts}
    if max(counts.values()) > _MANY:
        import_all()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidemill-reliability-")))
        estimators = dict.fromkeys(PARTS[name].estimator for name in parts)
        built = {each: [Yard(folder / each, estimator=each).build(shop)] for each in estimators}
        on_servers = dict.fromkeys(PARTS[name].estimator for name in parts if PARTS[name].on_servers)
        if on_servers and not only_sqlite:
            try:
                server = stack.enter_context(postgres())
                for each in on_servers:
                    built[each].append(Yard(folder / f"{each}-postgresql", server, each).build())
            except PartMissing as missing:
                report(f"no PostgreSQL: {missing}")
        for name in parts:
            tallies += PARTS[name].try_all(built[PARTS[name].estimator], counts[name], random.Random(seed))
            report(f"{name} is done")
    return tallies


def main() -> None:
    """Run the parts, or merge the results of earlier runs, and print or write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few tries of each kind: some minutes")
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="one part; can be repeated")
    parser.add_argument("--tries", type=int, default=0, help="another number of tries of each part")
    parser.add_argument("--sqlite", action="store_true", help="without PostgreSQL")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--merge", nargs="+", type=Path, help="JSON files of parts that were run before: run nothing")
    parser.add_argument("--shop", type=Path, help="a folder that keeps the shop on SQLite for the next run")
    parser.add_argument("--seed", type=int, default=1, help="of the times and the order of the faults")
    parser.add_argument("--markdown", action="store_true", help="write the table to docs/reliability.md")
    options = parser.parse_args()
    if options.merge:
        results = merge([json.loads(file.read_text()) for file in options.merge])
    else:
        commit = describe_commit()
        tallies = measure(
            options.only or list(PARTS),
            quick=options.quick,
            seed=options.seed,
            tries=options.tries,
            shop=options.shop,
            only_sqlite=options.sqlite,
        )
        faults = {tally.fault: asdict(tally) | {"commit": commit} for tally in tallies if tally.tries or tally.note}
        results = {"machine": describe_machine(), "seed": str(options.seed), "faults": faults}
    if options.json:
        print(json.dumps(results))
        return
    table = f"{results['machine']}; seed {results['seed']}; {format_results(results['faults'].values())}"
    print(table)
    if options.markdown:
        write_between(_PAGE, "reliability", table)


def format_results(faults: Iterable[dict[str, Any]]) -> str:
    """Return the measured commit, or that of each row in its note, and the table."""
    rows = list(faults)
    commits = {fields["commit"] for fields in rows}
    tallies = [Tally(**{name: value for name, value in fields.items() if name != "commit"}) for fields in rows]
    if len(commits) == 1:
        return f"commit {commits.pop()}\n\n{format_table(tallies)}"
    for tally, fields in zip(tallies, rows, strict=True):
        tally.note = "; ".join(text for text in (tally.note, f"commit {fields['commit']}") if text)
    return f"the commit of each row is in its note\n\n{format_table(tallies)}"


def merge(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of several runs as one; the counts of a fault are added."""
    faults: dict[str, dict[str, Any]] = {}
    for result in results:
        for fault, fields in result["faults"].items():
            earlier = faults.get(fault)
            faults[fault] = fields if earlier is None else _add(earlier, fields)
    seeds = ", ".join(dict.fromkeys(result["seed"] for result in results))
    return {"machine": results[0]["machine"], "seed": seeds, "faults": faults}


def _add(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    counts = {name: first[name] + second[name] for name in ("tries", "acknowledged", "lost", "recovered", "problems")}
    named = [fields["named"] for fields in (first, second) if fields["named"] is not None]
    notes = dict.fromkeys(note for fields in (first, second) for note in fields["note"].split("; ") if note)
    commits = dict.fromkeys(commit for fields in (first, second) for commit in fields["commit"].split(" and "))
    return (
        first
        | counts
        | {
            "named": sum(named) if named else None,
            "note": "; ".join(notes),
            "commit": " and ".join(commits),
        }
    )


if __name__ == "__main__":
    main()
