"""Hamilton with its cache: results as files, metadata in SQLite."""

import importlib
import sqlite3
import sys
from pathlib import Path

from hamilton import driver

from benchmarks.peers.orchestrator import work

_CACHE = "cache"


def chain(length: int) -> None:
    """Run a module with `length` functions; the cache needs their source in a file."""
    file = Path(f"chain_{length}.py")
    if not file.exists():
        lines = [
            "from benchmarks.peers.orchestrator.work import no_op",
            "def x0() -> dict: return no_op({'number': 0})",
        ]
        lines += [f"def x{step}(x{step - 1}: dict) -> dict: return no_op(x{step - 1})" for step in range(1, length)]
        draft = Path(f"draft_{id(lines)}_{length}.py")
        draft.write_text("\n".join(lines))
        draft.rename(file)
    sys.path[:0] = [] if "" in sys.path else [""]
    module = importlib.import_module(file.stem)
    built = driver.Builder().with_modules(module).with_cache(path=_CACHE, recompute=True).build()
    built.execute([f"x{length - 1}"])


def train() -> None:
    from benchmarks.peers.orchestrator import hamilton_training

    built = driver.Builder().with_modules(hamilton_training).with_cache(path=_CACHE).build()
    built.execute(["registered"])


def count() -> int:
    with sqlite3.connect(Path(_CACHE, "metadata_store.db")) as database:
        return int(database.execute("SELECT count(*) FROM history").fetchone()[0])


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {
        "inline": chain,
        "processes": "only steps that were fanned out may run in processes",
    }
    work.drive(chains, train=train, resume=train, count=count)
