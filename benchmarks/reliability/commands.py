"""The commands that change state: how each one acknowledges, and what must be true from then on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.reliability.shop import Shop

State = dict[str, Any]


class Command(NamedTuple):
    """A command that changes state.

    Attributes
    ----------
    words
        The command.
    acknowledgement
        A text of its output with which it acknowledges the change; exit code 0 does too.
    fact
        Returns whether the change is there.
    before
        Commands that run completely before it; each is acknowledged too.
    prepare
        Changes files of the shop before the command.
    again
        The command with which a person goes on after the kill; the same one if empty.
    done
        Texts of refusals that mean that the change is there already.
    points
        The named points at which it can be killed.
    """

    name: str
    words: tuple[str, ...]
    acknowledgement: str
    fact: Callable[[State], bool]
    before: tuple[tuple[str, ...], ...] = ()
    prepare: Callable[[Shop], object] | None = None
    again: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    removes: bool = False


_REASON = ("--reason", "tried")
_LEDGER = ("transaction is written", "transaction is committed")
_STEPS = (
    "run is alive",
    "run is started",
    "steps are resolved",
    "step is handed over",
    "arguments are loaded",
    "step has run",
    "output is stored",
    "step is written",
    "artifacts are written",
    "transaction begins",
    *_LEDGER,
    "run closes",
    "run's end is written",
    "run is finished",
    "blob is drafted",
    "blob is stored",
)
_ROUTE = ("route is written", "route is published")


def _all_rows(prefix: str, count: int) -> Callable[[State], bool]:
    return lambda state: sum(key.startswith(prefix) for key in state["keys"]) == count


COMMANDS: Sequence[Command] = (
    Command(
        "run ingestion",
        ("run", "ingestion"),
        "ingestion done",
        _all_rows("n7x", 20),
        prepare=lambda shop: shop.add_rows(7),
        points=(*_STEPS, "verdict is written"),
    ),
    Command(
        "run training",
        ("run", "training"),
        "training done",
        lambda state: "shop/3" in state["releases"] and len(state["keys"]) >= 20,
        prepare=lambda shop: shop.add_rows(7, 100),
        points=(*_STEPS, "metrics are written", "release is registered"),
    ),
    Command(
        "models approve",
        ("models", "approve", "shop/2", *_REASON),
        "shop/2: ",
        lambda state: "shop/2" in state["route"].values(),
        done=("is not waiting", "does not wait", "already", "in the route"),
        points=_ROUTE,
    ),
    Command(
        "models promote",
        ("models", "promote", "shop/2", *_REASON),
        "serves model shop",
        lambda state: state["route"].get("champion") == "shop/2",
        done=("already",),
        points=_ROUTE,
    ),
    Command(
        "models rollback",
        ("models", "rollback", *_REASON),
        "serves model shop again",
        lambda state: state["route"].get("champion") == "shop/1",
        before=(("models", "promote", "shop/2", *_REASON),),
        again=("models", "promote", "shop/1", *_REASON),
        done=("already",),
        points=_ROUTE,
    ),
    Command("models freeze", ("models", "freeze", *_REASON), "froze", lambda state: state["frozen"]),
    Command(
        "models thaw",
        ("models", "thaw", *_REASON),
        "thawed",
        lambda state: not state["frozen"],
        before=(("models", "freeze", *_REASON),),
        done=("is not frozen",),
    ),
    Command(
        "models tag",
        ("models", "tag", "shop/2", "team=red"),
        "team",
        lambda state: "team" in state["releases"]["shop/2"],
    ),
    Command("triggers pause", ("triggers", "pause", "watch", *_REASON), "paused", lambda state: state["paused"]),
    Command(
        "triggers resume",
        ("triggers", "resume", "watch", *_REASON),
        "resumed",
        lambda state: not state["paused"],
        before=(("triggers", "pause", "watch", *_REASON),),
        done=("is not paused",),
    ),
    Command(
        "triggers fire",
        ("triggers", "fire", "watching"),
        "job",
        lambda state: "waiting" in state["jobs"].values(),
        points=("job is written", "job is committed"),
    ),
    Command(
        "tokens create",
        ("tokens", "create", "app", "--role", "predict"),
        "tm_",
        lambda state: "app" in state["tokens"],
        done=("already",),
    ),
    Command(
        "tokens revoke",
        ("tokens", "revoke", "app", *_REASON),
        "is revoked",
        lambda state: state["tokens"]["app"],
        before=(("tokens", "create", "app", "--role", "predict"),),
        done=("already", "is revoked", "was revoked"),
    ),
    Command(
        "data withdraw",
        ("data", "withdraw", "data/more-0.csv", *_REASON),
        "withdrawn",
        lambda state: state["batches"]["data/more-0.csv"] == "withdrawn",
        done=("already",),
    ),
    Command(
        "erase",
        ("erase", "order_id=o00002", "--reason", "asked"),
        "cached frames",
        lambda state: "o00002" not in state["keys"],
        points=(
            "erasure begins",
            "erasure has an environment",
            "erasure has a kind",
            "erasure has a frame",
            "table is rewritten",
            "table has lost a file",
        ),
        removes=True,
    ),
    Command(
        "init",
        ("init", "other"),
        "next: cd other",
        lambda state: {"tidemill.toml", "features.py", "pipeline.py", "data/other.csv"} <= set(state["other"]),
        done=("already",),
    ),
    Command(
        "data accept",
        ("data", "accept", "rows", "wider.table.csv", *_REASON),
        "version 2",
        lambda state: state["schemas"] == 2,
        prepare=lambda shop: shop.write_wider("wider.table.csv"),
        done=("already", "nothing", "passes"),
    ),
    Command(
        "restore",
        ("restore", "../b.tar", "--force"),
        "restored shop",
        lambda _: True,
        before=(("backup", "../b.tar"),),
        points=("restore has verified", "restore has the ledger", "restore has moved aside"),
    ),
    Command("gc", ("gc", "--apply"), "were deleted", lambda _: True, points=("gc has marked",)),
    Command(
        "backup",
        ("backup", "../b.tar"),
        "backed up",
        lambda _: True,
        points=("backup has a book", "backup has all but the manifest"),
    ),
)


def find_lost(before: State, after: State, command: Command) -> Iterator[str]:
    """Yield what was there before a command and is not any more."""
    for name, ids in before["ids"].items():
        if missing := set(ids) - set(after["ids"][name]):
            yield f"{len(missing)} records of {name}"
    for kind, ids in before["journal"].items():
        if missing := set(ids) - set(after["journal"].get(kind, ())):
            yield f"{len(missing)} rows of {kind}"
    if not command.removes and (missing := set(before["keys"]) - set(after["keys"])):
        yield f"{len(missing)} rows of the table"
