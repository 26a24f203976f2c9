"""Damages files of each store, and compares every value that is read afterwards with what it was before."""

import hashlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.reliability import child
from benchmarks.reliability.service import Answered, Service
from benchmarks.reliability.shop import Shop, Yard
from benchmarks.reliability.tally import Tally, report

PATTERNS = {
    "ledger": ("ledger.db",),
    "blobs": ("blobs/??/*",),
    "journal": ("environments/production/journal/**/*",),
    "tables": (
        "environments/production/tables/rows/*.parquet",
        "environments/production/tables/rows/_delta_log/*.json",
    ),
    "board": ("environments/production/routes/*.json", "environments/production/routes/access.tokens"),
    "backup": ("../backup.tar",),
}
DAMAGES = ("truncate", "empty", "flip", "delete", "swap")
_DEPENDS = {
    "ledger": ("ledger", "blobs", "packages"),
    "blobs": ("blobs", "packages", "service"),
    "journal": ("labels", "predictions"),
    "tables": ("table",),
    "board": ("board", "service"),
    "backup": ("restored",),
}
"""The values that may be missing, by the store with the damaged file."""


def try_damage(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Damage one file in each try, in a fresh copy of a shop that has predictions and labels."""
    tallies = {store: Tally(f"damaged file of {store}", named=0) for store in PATTERNS}
    with yards[0].copy() as shop:
        _use(shop)
        pristine = shop.folder.with_name("pristine")
        shutil.copytree(shop.folder, pristine)
        expected = _read_all(shop)
        if bad := {name: value for name, value in expected.items() if value.startswith("! ")}:
            raise SystemExit(f"the undamaged shop cannot be read: {bad}")
        for number in range(tries):
            shutil.rmtree(shop.folder)
            shutil.copytree(pristine, shop.folder)
            store = list(PATTERNS)[number % len(PATTERNS)]
            damage = DAMAGES[number // len(PATTERNS) % len(DAMAGES)]
            what, names = _damage(shop, store, damage, generator)
            unused = store == "ledger" and _has_same_records(shop.state / "ledger.db", pristine / ".tidemill/ledger.db")
            _judge(shop, tallies[store], store, what, names, expected, is_unused=unused)
            if number % 10 == 9:
                report(f"damaged files: {number + 1} tries")
    return list(tallies.values())


def _use(shop: Shop) -> None:
    """Fill the journal with some segments, make a token, and back up."""
    for part in range(2):
        service = Service(shop)
        answered = Answered()
        for number in range(5):
            if problem := service.predict_and_label(answered, f"d{part}x{number}"):
                raise SystemExit(problem)
        service.stop()
    shop.token = shop.require("tokens", "create", "app", "--role", "admin").out.split()[0]
    shop.require("backup", "backup.tar")
    shop.checkpoint()


def _damage(shop: Shop, store: str, damage: str, generator: random.Random) -> tuple[str, tuple[str, ...]]:
    """Damage a file of a store; return a description, and the names by which an error can name it."""
    files = sorted(
        file
        for pattern in PATTERNS[store]
        for file in shop.state.glob(pattern)
        if file.is_file() and file.stat().st_size
    )
    file = generator.choice([file for file in files if not file.name.startswith(".")])
    others = [other for other in files if other != file and other.suffix == file.suffix]
    content = file.read_bytes()
    if damage == "swap" and not others:
        damage = "flip"
    if damage == "truncate":
        file.write_bytes(content[: generator.randrange(1, max(2, len(content)))])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "delete":
        file.unlink()
    elif damage == "swap":
        other = generator.choice(others)
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)
    else:
        place = generator.randrange(len(content))
        flipped = bytes([content[place] ^ (1 << generator.randrange(8))])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])
    return f"{damage} {os.path.relpath(file, shop.state)}", (file.name, file.name[:12], *_SYNONYMS.get(store, ()))


_SYNONYMS = {
    "ledger": ("ledger",),
    "tables": ("table 'rows'", "table rows"),
    "board": ("route of", "tokens"),
    "backup": ("backup",),
}


def _has_same_records(file: Path, pristine: Path) -> bool:
    """Return whether SQLite finds the same records and a sound structure: the damaged bytes are of no record."""
    return _dump(file) == _dump(pristine)


def _dump(file: Path) -> list[str]:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
            return [*connection.iterdump(), *(str(row) for row in connection.execute("PRAGMA integrity_check"))]
    except (sqlite3.Error, ValueError) as error:
        return [f"{type(error).__name__}: {error}"]


def _judge(
    shop: Shop,
    tally: Tally,
    store: str,
    what: str,
    names: Sequence[str],
    expected: Mapping[str, str],
    *,
    is_unused: bool,
) -> None:
    found = _read_all(shop, backup=store == "backup")
    texts = [value.removeprefix("! ") for value in found.values() if value.startswith("! ")]
    texts += [shop.run(*words).text for words in _list_examinations()]
    texts += [file.read_text(errors="replace") for file in shop.logs.glob("*.err")]
    for file in shop.logs.glob("*"):
        file.unlink()
    is_named = any(name in text for name in names for text in texts)
    if is_unused and not is_named:
        tally.unused += 1
        tally.note = f"{tally.unused} flipped bits in bytes that no record uses"
    elif not is_named:
        report(f"    not named: {sorted({text[:300] for text in texts if text})}")
    different = [name for name, value in found.items() if value != expected[name]]
    silent = [name for name in different if not found[name].startswith("! ") and not is_named]
    spread = [f"{name} too: {found[name][:160]}" for name in different if name not in _DEPENDS[store]]
    crashed = sorted({_describe_crash(text) for text in texts if "bug in Tidemill" in text})
    lost = [f"another value of {name}, silently" for name in silent]
    named = None if is_unused and not is_named else is_named
    tally.add(what, acknowledged=len(expected), lost=lost, broken=[*spread, *crashed], named=named)


def _describe_crash(text: str) -> str:
    line = next(line for line in text.splitlines() if "bug in Tidemill" in line)
    return f"an error without a cure: {line.removeprefix('bug in Tidemill: ').removeprefix('error: ')[:120]}"


def _list_examinations() -> Sequence[tuple[str, ...]]:
    """Return the commands that look for damage."""
    import tidemill.cli.main as commands

    return (("doctor",),) if "doctor" in commands.VERBS else (("audit", "verify"), ("status",))


def _read_all(shop: Shop, *, backup: bool = True) -> dict[str, str]:
    """Return a digest of each kind of value, or its error after `! `."""
    try:
        found: dict[str, str] = child.ask(shop.folder, _read_each, logs=shop.logs, environment=shop.environment)
    except RuntimeError as error:
        found = dict.fromkeys(_READERS, f"! {error}")
    found["service"] = _ask_service(shop)
    if backup:
        restored = shop.run("restore", "backup.tar", TIDEMILL_WORKSPACE=str(shop.folder / "restored"))
        found["restored"] = f"! {restored.summary}" if restored.code else _digest(restored.out.splitlines()[:1])
        shutil.rmtree(shop.folder / "restored", ignore_errors=True)
    return found


def _ask_service(shop: Shop) -> str:
    try:
        service = Service(shop)
    except RuntimeError as error:
        return f"! {error}"
    status, reply = service.predict("the same")
    log = service.child.err
    problem = service.stop()
    if status != 200 or problem:
        return f"! {status} {reply} {problem} {log[-500:]}"
    return _digest(reply["predictions"][0]["probabilities"])


def _read_each() -> dict[str, str]:
    return {name: _explain(read) for name, read in _READERS.items()}


def _explain(read: Callable[[Any], Any]) -> str:
    from tidemill.compose.session import open_session
    from tidemill.errors import TidemillError
    from tidemill.project.project import Project

    try:
        return _digest(read(open_session(Project(Path.cwd()), "production")))
    except TidemillError as error:
        return f"! {error}"
    except BaseException as error:  # noqa: BLE001 - also a panic: what a damaged file raises is the question
        return f"! bug in Tidemill: {type(error).__name__}: {error}"


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def _read_ledger(session: Any) -> Any:
    return {name: sorted(lines) for name, lines in session.workspace.ledger.export()}


def _read_blobs(session: Any) -> Any:
    blobs = session.workspace.blobs
    return [
        hashlib.sha256(blobs.get(artifact.id)).hexdigest()
        for artifact in session.workspace.ledger.artifacts.find()
        if not artifact.transient
    ]


def _read_packages(session: Any) -> Any:
    return [
        sorted(session.packages.load(release.package).files.items())
        for release in session.workspace.ledger.releases.find()
    ]


def _read_table(session: Any) -> Any:
    tables = session.workspace.tables
    return tables.read("rows", tables.version("rows")).sort("order_id").to_dicts()


def _read_labels(session: Any) -> Any:
    return session.workspace.journal.read("labels/shop").select("id", "value").to_dicts()


def _read_predictions(session: Any) -> Any:
    return session.workspace.journal.read("predictions/shop").to_dicts()


def _read_board(session: Any) -> Any:
    return session.workspace.board.routes(), session.workspace.board.tokens()


_READERS = {
    "ledger": _read_ledger,
    "blobs": _read_blobs,
    "packages": _read_packages,
    "table": _read_table,
    "labels": _read_labels,
    "predictions": _read_predictions,
    "board": _read_board,
}
