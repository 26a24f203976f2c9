"""Moves the ledger, the journal, the blobs and the board of a running `up` away and back."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability.service import Answered, Service
from benchmarks.reliability.shop import Shop, Yard
from benchmarks.reliability.state import read_state
from benchmarks.reliability.tally import Tally, report

STORES = {
    "ledger": "ledger.db",
    "journal": "environments/production/journal",
    "blobs": "blobs",
    "board": "environments/production/routes",
}
_COMMANDS = (("models", "list"), ("status",), ("runs", "list"), ("routes", "list"), ("triggers", "list"))
_READERS = {"blobs": ("status",)}
"""The command that reports a store which no other command of these reads."""
_RECOVERY = 60.0


def try_moves(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Move each store away and back, `tries` times each, while one `up` runs."""
    tallies = []
    for store, path in STORES.items():
        tally = Tally(f"{store} moved away and back", named=0)
        with yards[0].copy() as shop:
            _move(shop, store, shop.state / path, tally, tries, generator)
        tallies.append(tally)
        report(f"{tally.fault}: {tally.tries} tries, {tally.lost} lost, {tally.recovered} recovered")
    return tallies


def _move(shop: Shop, store: str, path: Path, tally: Tally, tries: int, generator: random.Random) -> None:
    before = read_state(shop)
    answered = Answered()
    service = Service(shop, "up")
    aside = path.with_name(f"{path.name}.aside")
    for number in range(tries):
        service.predict_and_label(answered, f"before{number}")
        begun = len(service.child.err)
        path.rename(aside)
        said = _use(shop, service, answered, _READERS.get(store) or generator.choice(_COMMANDS), generator)
        broken = []
        if path.exists():
            broken.append(f"an empty {store} was created while it was away")
            path.rename(path.with_name(f"{path.name}.created{number}"))
        aside.rename(path)
        broken += _wait_for_recovery(shop, service, answered)
        said += service.child.err[begun:]
        is_named = store in said or path.name in said or (store == "board" and "route" in said)
        tally.add(f"try {number + 1}", broken=broken, named=is_named)
    stopped = service.stop()
    after = read_state(shop)
    lost, _ = answered.find_lost(after, 0.0, 0.0)
    lost += [f"{name}: {ident}" for name, ids in before["ids"].items() for ident in set(ids) - set(after["ids"][name])]
    tally.acknowledged += len(answered.labels) + sum(map(len, before["ids"].values()))
    tally.lost += len(lost)
    tally.problems += [f"LOST {text}" for text in lost[:5]] + [text for text in (stopped, *after["problems"]) if text]


def _use(shop: Shop, service: Service, answered: Answered, words: Sequence[str], generator: random.Random) -> str:
    """Send requests and run a command while the store is away; return what was printed."""
    said = shop.run(*words).text
    deadline = time.monotonic() + generator.uniform(0.5, 6.0)
    while time.monotonic() < deadline:
        said += service.predict_and_label(answered, f"away{time.monotonic_ns()}")
        time.sleep(0.05)
    return said


def _wait_for_recovery(shop: Shop, service: Service, answered: Answered) -> list[str]:
    deadline = time.monotonic() + _RECOVERY
    problem = ""
    while time.monotonic() < deadline:
        status, reply = service.request("/ready")
        problem = "" if status == 200 else f"/ready is {status}: {reply}"
        problem = problem or service.predict_and_label(answered, f"back{time.monotonic_ns()}")
        if not problem:
            ended = shop.run("models", "list", "--json")
            problem = "" if ended.code == 0 and '"version": 1' in ended.out else ended.summary
        if not problem:
            return []
        time.sleep(0.2)
    return [f"it did not recover within {_RECOVERY:.0f} s: {problem}"]
