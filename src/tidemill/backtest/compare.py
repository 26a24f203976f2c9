"""Compares policies over the same part of history: each replayed in a process of its own, some under several seeds."""

import multiprocessing
import os
import queue
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tidemill.backtest.comparison import BacktestResult, Disturbance, Period, PolicyResult
from tidemill.backtest.policies import PolicyPlan, seeded
from tidemill.core.backtest import Backtest
from tidemill.core.metric import default_metric
from tidemill.core.policy import Policy
from tidemill.errors import TidemillError
from tidemill.project.project import Project

CompareProgress = Callable[[str, datetime, str], None]
_AT_ONCE = 3


class _One(Struct, frozen=True):
    """One replay that is to be done."""

    name: str
    seed: int
    planned: PolicyPlan

    @property
    def label(self) -> str:
        return f"{self.name}-{self.seed}" if self.seed else self.name


def compare(
    project: Project,
    policies: Mapping[str, PolicyPlan],
    model: str,
    part: Period,
    told: CompareProgress,
    *,
    keep: Path | None = None,
    seeds: Sequence[int] = (0,),
) -> BacktestResult:
    """Replay every policy under every seed, three at a time; what is told comes as it happens.

    A policy that is made of what the first one came to waits for it. `keep` is a folder in which the first policy's
    workspace stays for `tidemill why` and the like.

    Raises
    ------
    TidemillError
        if a replay fails.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tidemill-backtest-"))
    first, plan = next(iter(policies.items()))
    replays = [_One(name, seed, one) for seed in seeds for name, one in policies.items()]
    try:
        outcomes = _in_processes(project, replays, model, part, folder, told)
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / replays[0].label, keep)
            shutil.move(folder / "blobs", keep / "blobs")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    chosen = project.model(model)
    assert isinstance(plan, Policy), f"policy {first!r} comes first: it is made of no other"
    return BacktestResult(
        project=project.name,
        model=chosen.name,
        metric=chosen.problem.metric or default_metric(chosen.problem.task),
        part=part,
        planted=planted(plan.backtest),
        outcomes=outcomes[: len(policies)],
        repeats=outcomes[len(policies) :],
        cost_of_training=chosen.problem.cost_of_training,
        seconds=time.monotonic() - began,
        shuffled=plan.backtest.shuffle,
    )


def planted(backtest: Backtest) -> list[Disturbance]:
    """What a backtest puts on top of the history, by day."""
    deliveries = [Disturbance(one.day, one.about or one.path) for one in backtest.planted]
    return sorted([*deliveries, *(Disturbance(one.at[:10], one.about or one.pipeline) for one in backtest.firings)])


def _in_processes(
    project: Project, replays: list[_One], model: str, part: Period, folder: Path, told: CompareProgress
) -> list[PolicyResult]:
    context = multiprocessing.get_context("spawn")
    _share_cores()
    news: Any = context.Queue()
    first = replays[0].name
    # What trains most goes first, what only predicts last: it fills the core on which a long one ended.
    waiting = sorted(replays, key=lambda one: isinstance(one.planned, Policy) and not one.planned.triggers)
    running: dict[str, Any] = {}
    outcomes: dict[str, PolicyResult] = {}

    def policy_of(one: _One) -> Policy | None:
        if isinstance(one.planned, Policy):
            return one.planned
        made_of = outcomes.get(_One(first, one.seed, one.planned).label)
        return one.planned(made_of) if made_of else None

    try:
        while waiting or running:
            ready = [(one, policy) for one in waiting if (policy := policy_of(one)) is not None]
            for one, policy in ready[: _AT_ONCE - len(running)]:
                waiting.remove(one)
                encoded = msgspec.json.encode(seeded(policy, one.seed))
                given = (str(project.folder), one.label, one.name, encoded, model, part, str(folder), news)
                running[one.label] = context.Process(target=_replay, args=given, daemon=True)
                running[one.label].start()
            try:
                label, kind, content = news.get(timeout=1.0)
            except queue.Empty:
                _hold_alive(running)
                continue
            if kind == "told":
                told(label, *content)
            elif kind == "failed":
                raise TidemillError(f"the replay of policy {label!r} failed: {content[0]}", content[1])
            else:
                outcomes[label] = msgspec.json.decode(content, type=PolicyResult)
                running.pop(label).join()
    finally:
        _end(running, news)
    return [outcomes[one.label] for one in replays]


def _end(running: dict[str, Any], news: Any) -> None:
    """Leave no process, and nothing that the system would find leaked."""
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.join()
    news.close()
    news.cancel_join_thread()


def _share_cores() -> None:
    """Give each process to come its share of the cores: numeric libraries that fight for them wait in circles."""
    share = str(max(1, (os.cpu_count() or 2) // _AT_ONCE))
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, share)


def _hold_alive(running: dict[str, Any]) -> None:
    for label, process in running.items():
        if not process.is_alive() and process.exitcode:
            raise TidemillError(
                f"the replay of policy {label!r} was ended (exit code {process.exitcode})", "see whether memory ran out"
            )


def _replay(folder: str, label: str, name: str, policy: bytes, model: str, part: Period, place: str, news: Any) -> None:
    """One policy, in a process of its own; only here is the training code imported."""
    # Ctrl-C reaches the whole group: it is the parent that ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from tidemill.backtest.replay import Replay
    from tidemill.backtest.summary import summarize

    began = time.monotonic()
    try:
        project = Project(Path(folder))
        decoded = msgspec.json.decode(policy, type=Policy)
        replay = Replay(
            project, decoded, model, part, Path(place) / label, lambda at, said: news.put((label, "told", (at, said)))
        )
        replay.run()
        outcome = summarize(name, replay, time.monotonic() - began)
        news.put((label, "done", msgspec.json.encode(outcome)))
    except TidemillError as failed:
        news.put((label, "failed", (failed.problem, failed.cure)))
    except Exception as bug:  # noqa: BLE001 - the other replays are ended, and the user is told what it was
        hint = "set TIDEMILL_DEBUG=1 to see where"
        if os.environ.get("TIDEMILL_DEBUG"):
            traceback.print_exc()
        news.put((label, "failed", (f"the replay of policy {label!r} ended: {type(bug).__name__}: {bug}", hint)))
