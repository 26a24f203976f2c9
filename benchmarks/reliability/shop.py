"""The project of the tries: a shop with two releases, made once and copied for each try."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.reliability import child
from benchmarks.reliability.child import Child, Ended
from benchmarks.reliability.tally import report

_ROWS = 900
ESTIMATORS = {
    "tree": 'estimator = "sklearn.tree:DecisionTreeClassifier"\nparams = { max_depth = 3, min_samples_leaf = 40 }',
    "lightgbm": "params = { n_estimators = 20, num_leaves = 7, min_child_samples = 40 }",
}
"""The settings of the model by its kind. A service needs seconds to start a process for a tree, none for LightGBM."""
_CHANGES = {
    "margin = 0.01": "margin = 5.0\nconfidence = 0.6",
    "share = 0.2": "share = 0.2\napproval = true",
}


class Shop:
    """A copy of the shop: its folder, and the variables with which its commands run."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.token = ""
        self.logs = folder.with_name(f"{folder.name}.logs")

    @property
    def state(self) -> Path:
        """Return the folder of the workspace."""
        return self.folder / ".tidemill"

    def start(self, *words: str, **variables: str) -> Child:
        """Start a command."""
        return child.start(self.folder, *words, logs=self.logs, environment=self.environment | variables)

    def run(self, *words: str, **variables: str) -> Ended:
        """Run a command until it ends."""
        return self.start(*words, **variables).wait()

    def require(self, *words: str, **variables: str) -> Ended:
        """Run a command that must succeed."""
        ended = self.run(*words, **variables)
        if ended.code:
            raise SystemExit(f"tidemill {' '.join(words)} failed in {self.folder}: {ended.text[-3000:]}")
        return ended

    def checkpoint(self) -> None:
        """Move all records of SQLite's log to the file of the ledger: a process that ends at once does not."""
        connection = sqlite3.connect(self.state / "ledger.db")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def write_wider(self, name: str) -> Path:
        """Write a table with a value that the schema of the source does not allow."""
        header, line, *_ = (self.folder / "data" / "shop.csv").read_text().splitlines()
        values = line.split(",")
        values[header.split(",").index("items")] = "9999"
        (self.folder / name).write_text(f"{header}\n{','.join(values)}\n")
        return self.folder / name

    def append_policy(self, text: str) -> None:
        """Add a part to tidemill.toml."""
        with (self.folder / "tidemill.toml").open("a") as file:
            file.write(text)

    def add_rows(self, number: int, count: int = 20) -> Path:
        """Write a further file with rows of the source."""
        file = self.folder / "data" / f"more-{number}.csv"
        draft = file.with_suffix(".draft")
        header, *lines = (self.folder / "data" / "shop.csv").read_text().splitlines()
        rows = [f"n{number}x{line}" for line in lines[:count]]
        draft.write_text("\n".join((header, *rows)) + "\n")
        draft.rename(file)
        return file


class Yard:
    """Makes copies of the shop, with SQLite or with a database of a PostgreSQL server."""

    def __init__(self, folder: Path, server: str = "", estimator: str = "tree") -> None:
        self.folder = folder
        self.server = server
        self._estimator = estimator
        self._count = 0
        self._template = Shop(folder / "template", self._use("template"))
        self._databases: dict[Path, str] = {}

    @property
    def kind(self) -> str:
        """Return the name of the database system."""
        return "PostgreSQL" if self.server else "SQLite"

    def build(self, kept: Path | None = None) -> "Yard":
        """Make the shop: a champion, and a release that waits for approval; or copy it from a folder that keeps it."""
        begun = time.monotonic()
        folder = self.folder / "template"
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = kept / self._estimator if kept is not None else None
        if kept is not None and kept.exists():
            shutil.copytree(kept, folder, symlinks=True)
            return self
        if self.server:
            self._execute("CREATE DATABASE {}", "template")
        child.start(self.folder, "init", "template", logs=self._template.logs).wait()
        (folder / "data" / "template.csv").rename(folder / "data" / "shop.csv")
        table = (folder / "data" / "shop.csv").read_text().splitlines()
        step = max(1, len(table) // _ROWS)
        (folder / "data" / "shop.csv").write_text("\n".join((table[0], *table[1::step])) + "\n")
        policy = folder / "tidemill.toml"
        text = (
            policy.read_text().replace("data/template.csv", "data/*.csv").replace('name = "template"', 'name = "shop"')
        )
        changes = _CHANGES | {"[gate]   ": f"{ESTIMATORS[self._estimator]}\n\n[gate]   "}
        for passage, other in changes.items():
            if passage not in text:
                raise SystemExit(f"the policy of `tidemill init` has no {passage!r} any more")
            text = text.replace(passage, other, 1)
        policy.write_text(text)
        self._template.require("run", "training")
        self._template.require("models", "approve", "shop/1", "--reason", "the first")
        self._template.add_rows(0, 60)
        self._template.require("run", "training")
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, kept, symlinks=True)
        report(f"made the shop on {self.kind} with {self._estimator} in {time.monotonic() - begun:.0f} s")
        return self

    @contextmanager
    def copy(self) -> Iterator[Shop]:
        """Make a copy for the block."""
        self._count += 1
        name = f"shop{self._count}"
        folder = self.folder / name / "shop"
        shutil.copytree(self._template.folder, folder, symlinks=True)
        if self.server:
            self._execute("CREATE DATABASE {} TEMPLATE {}", name, "template")
        shop = Shop(folder, self._use(name))
        try:
            yield shop
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)
            if self.server:
                self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _use(self, name: str) -> dict[str, str]:
        variables = {"TIDEMILL_WORKSPACE": "", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        if self.server:
            address = self.server.removesuffix("/postgres").removeprefix("postgresql")
            variables["TIDEMILL_LEDGER"] = f"postgresql+psycopg{address}/{name}_{self._estimator}_{os.getpid()}"
        return variables

    def _execute(self, statement: str, *names: str) -> None:
        quoted = [sql.Identifier(f"{name}_{self._estimator}_{os.getpid()}") for name in names]
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*quoted))
