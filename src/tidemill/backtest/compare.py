"""Compare policies over the same period of history: one process for each replay, some policies under several seeds."""

import gc
import multiprocessing
import os
import queue
import shutil
import signal
import sys
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
from tidemill.backtest.policies import PolicyPlan, add_seed
from tidemill.core.backtest import Backtest
from tidemill.core.metric import default_metric
from tidemill.core.policy import Policy
from tidemill.errors import TidemillError
from tidemill.host.programs import exit_with_parent
from tidemill.project.project import Project

CompareProgress = Callable[[str, datetime, str], None]
"""A callback for progress: the label of the replay, the virtual time, and a message."""
_PARALLEL_REPLAYS = 3
_NICENESS = 5
_COLLECTED = 50_000, 20, 20  # objects, and collections of the younger generations
_PRELOADED = ["tidemill.backtest.preloaded"]
_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:60000,muzzy_decay_ms:-1",  # of Polars
}


class _ReplayTask(Struct, frozen=True):
    """One replay to run: a policy under a seed."""

    name: str
    seed: int
    plan: PolicyPlan
    niceness: int = 0

    @property
    def label(self) -> str:
        return f"{self.name}-{self.seed}" if self.seed else self.name


def compare(
    project: Project,
    policies: Mapping[str, PolicyPlan],
    model: str,
    period: Period,
    report_progress: CompareProgress,
    *,
    keep: Path | None = None,
    seeds: Sequence[int] = (0,),
) -> BacktestResult:
    """Replay every policy under every seed, three at a time, and report progress as it happens.

    A policy that is built from the result of the first policy waits for that result. `keep` is a folder that keeps the
    first policy's workspace, so that `tidemill why` and other commands can read it.

    Raises
    ------
    TidemillError
        if a replay fails.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tidemill-backtest-"))
    first, plan = next(iter(policies.items()))
    # The first policy usually takes longest, and others wait for its result: it has a core of its own.
    tasks = [
        _ReplayTask(name, seed, policy_plan, niceness=0 if name == first else _NICENESS)
        for seed in seeds
        for name, policy_plan in policies.items()
    ]
    try:
        results = _run_processes(project, tasks, model, period, folder, report_progress)
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / tasks[0].label, keep)
            shutil.move(folder / "blobs", keep / "blobs")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    chosen = project.model(model)
    assert isinstance(plan, Policy), f"policy {first!r} comes first: it cannot be built from another policy's result"
    return BacktestResult(
        project=project.name,
        model=chosen.name,
        metric=chosen.problem.metric or default_metric(chosen.problem.task),
        period=period,
        disturbances=list_disturbances(plan.backtest),
        outcomes=results[: len(policies)],
        repeats=results[len(policies) :],
        cost_of_training=chosen.problem.cost_of_training,
        seconds=time.monotonic() - began,
        shuffled=plan.backtest.shuffle,
    )


def replay_each(
    project: Project,
    policies: Mapping[str, Policy],
    model: str,
    period: Period,
    folder: Path,
    report_progress: CompareProgress,
) -> dict[str, PolicyResult | TidemillError]:
    """Replay every policy, three at a time, and return the result of each, or the error of a replay that failed.

    `folder` keeps the workspace of each policy under its name, and the results of trainings, which later calls with the
    same folder use again.
    """
    tasks = [_ReplayTask(name, 0, policy) for name, policy in policies.items()]
    failures: dict[str, TidemillError] = {}
    folder.mkdir(parents=True, exist_ok=True)
    results = _run_processes(project, tasks, model, period, folder, report_progress, failures)
    return {**failures, **{result.name: result for result in results}}


def list_disturbances(backtest: Backtest) -> list[Disturbance]:
    """Return the deliveries that a backtest replaces and the pipelines that it starts, by day."""
    deliveries = [Disturbance(delivery.day, delivery.about or delivery.path) for delivery in backtest.planted]
    firings = [Disturbance(firing.at[:10], firing.about or firing.pipeline) for firing in backtest.firings]
    return sorted([*deliveries, *firings])


def _run_processes(
    project: Project,
    tasks: list[_ReplayTask],
    model: str,
    period: Period,
    folder: Path,
    report_progress: CompareProgress,
    failures: dict[str, TidemillError] | None = None,
) -> list[PolicyResult]:
    """Return the results of all replays; with `failures`, a replay that fails is added to it and stops no other."""
    context = _choose_context()
    messages: Any = context.Queue()
    first = tasks[0].name
    # Policies that only predict start last: their short replays fill the cores that the long ones no longer use.
    waiting = sorted(tasks, key=lambda task: isinstance(task.plan, Policy) and not task.plan.triggers)
    running: dict[str, Any] = {}
    results: dict[str, PolicyResult] = {}

    def build_policy(task: _ReplayTask) -> Policy | None:
        if isinstance(task.plan, Policy):
            return task.plan
        first_result = results.get(_ReplayTask(first, task.seed, task.plan).label)
        return task.plan(first_result) if first_result else None

    try:
        while waiting or running:
            ready = [(task, policy) for task in waiting if (policy := build_policy(task)) is not None]
            for task, policy in ready[: _PARALLEL_REPLAYS - len(running)]:
                waiting.remove(task)
                encoded = msgspec.json.encode(add_seed(policy, task.seed))
                arguments = (
                    str(project.folder),
                    task.label,
                    task.name,
                    encoded,
                    model,
                    period,
                    str(folder),
                    dict(os.environ),
                    task.niceness,
                    messages,
                )
                running[task.label] = context.Process(target=_replay, args=arguments, daemon=True)
                running[task.label].start()
            try:
                label, kind, content = messages.get(timeout=1.0)
            except queue.Empty:
                _require_running(running)
                continue
            if kind == "progress":
                report_progress(label, *content)
            elif kind == "failed":
                failed = TidemillError(f"the replay of policy {label!r} failed: {content[0]}", content[1])
                if failures is None:
                    raise failed
                failures[label] = failed
                running.pop(label).join()
            else:
                results[label] = msgspec.json.decode(content, type=PolicyResult)
                running.pop(label).join()
    finally:
        _stop_processes(running, messages)
    return [results[task.label] for task in tasks if task.label in results]


def _stop_processes(running: dict[str, Any], messages: Any) -> None:
    """Terminate every process and close the queue, so that the system reports no leak."""
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.join()
    messages.close()
    messages.cancel_join_thread()


def _choose_context() -> Any:
    """Return the context that starts the processes, with the settings of their libraries.

    The processes are forks of a server that has imported the slowest libraries, and has used none of them. Polars is
    not among these: it starts threads when it is imported.
    """
    _set_up_libraries()
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _set_up_libraries() -> None:
    """Limit the threads of the numeric libraries in each process, so that the processes do not compete for cores.

    The processes also keep the memory that they free for a minute, instead of asking the system for each large array.
    """
    share = str(max(1, (os.cpu_count() or 2) // _PARALLEL_REPLAYS))
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, share)
    for name, value in _MEMORY.items():
        os.environ.setdefault(name, value)


def _require_running(running: dict[str, Any]) -> None:
    for label, process in running.items():
        if not process.is_alive() and process.exitcode:
            raise TidemillError(
                f"the process that replays policy {label!r} stopped with exit code {process.exitcode}",
                "check whether the machine ran out of memory",
            )


def _replay(
    folder: str,
    label: str,
    name: str,
    policy: bytes,
    model: str,
    period: Period,
    workspaces: str,
    variables: dict[str, str],
    niceness: int,
    messages: Any,
) -> None:
    """Replay one policy in this process; only this function imports the training code.

    `variables` are those of the environment now: the server that forks this process may be older.
    """
    os.environ.clear()
    os.environ.update(variables)
    if niceness and sys.platform != "win32":
        os.nice(niceness)
    exit_with_parent()  # a replay can take hours
    # Ctrl-C reaches the whole process group: the parent stops its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from tidemill.backtest.replay import Replay
    from tidemill.backtest.summary import summarize

    def report_progress(virtual_time: datetime, message: str) -> None:
        messages.put((label, "progress", (virtual_time, message)))

    began = time.monotonic()
    try:
        project = Project(Path(folder))
        decoded = msgspec.json.decode(policy, type=Policy)
        replay = Replay(project, decoded, model, period, Path(workspaces) / label, report_progress)
        # The modules and the history stay until the end: to search them for garbage would take a fortieth of the time.
        gc.freeze()
        gc.set_threshold(*_COLLECTED)
        replay.run()
        result = summarize(name, replay, time.monotonic() - began)
        messages.put((label, "done", msgspec.json.encode(result)))
    except TidemillError as failed:
        messages.put((label, "failed", (failed.problem, failed.cure)))
    except Exception as bug:  # noqa: BLE001 - the parent stops the other replays and shows this error to the user
        hint = "set TIDEMILL_DEBUG=1 to see the traceback"
        if os.environ.get("TIDEMILL_DEBUG"):
            traceback.print_exc()
        messages.put((label, "failed", (f"{type(bug).__name__}: {bug}", hint)))
