"""Dagster: jobs with its file manager and a local instance; steps run in this process, or each in a new one."""

from typing import Any

import dagster as dg

from benchmarks.peers.orchestrator import work

_RESOURCES = {"io_manager": dg.fs_io_manager}
_LENGTHS = (5, 6, 10, 50)


@dg.op
def first() -> dict[str, int]:
    return work.no_op({"number": 0})


@dg.op
def no_op(state: dict[str, int]) -> dict[str, int]:
    return work.no_op(state)


def build_chain(length: int, name: str, executor: Any) -> Any:
    @dg.job(name=name, executor_def=executor, resource_defs=_RESOURCES)
    def chain() -> None:
        state = first()
        for index in range(1, length):
            state = no_op.alias(f"no_op_{index}")(state)

    return chain


two_processes = dg.multiprocess_executor.configured({"max_concurrent": 2})
inline_5, inline_6, inline_10, inline_50 = (
    build_chain(length, f"inline_{length}", dg.in_process_executor) for length in _LENGTHS
)
processes_5, processes_6, processes_10, processes_50 = (
    build_chain(length, f"processes_{length}", two_processes) for length in _LENGTHS
)


@dg.op
def load() -> Any:
    return work.load()


@dg.op
def validate(frame: Any) -> Any:
    return work.validate(frame)


@dg.op(out={"rows": dg.Out(), "test_rows": dg.Out()})
def split(frame: Any, report: Any) -> tuple[Any, Any]:
    return work.split(frame, report)


@dg.op
def train(rows: Any) -> Any:
    return work.train(rows)


@dg.op
def evaluate(model: Any, test_rows: Any) -> Any:
    return work.evaluate(model, test_rows)


@dg.op
def register(model: Any, metrics: Any) -> Any:
    return work.register(model, metrics)


@dg.job(executor_def=dg.in_process_executor, resource_defs=_RESOURCES)
def training() -> None:
    frame = load()
    rows, test_rows = split(frame, validate(frame))
    model = train(rows)
    register(model, evaluate(model, test_rows))


definitions = dg.Definitions(jobs=[inline_5, training])


def run_inline(length: int) -> None:
    assert globals()[f"inline_{length}"].execute_in_process(instance=dg.DagsterInstance.get()).success


def find_job(name: str) -> Any:
    """Return a job by its name; child processes import this function."""
    return globals()[name]


def run_job(name: str, resumed: str = "") -> None:
    instance = dg.DagsterInstance.get()
    options = dg.ReexecutionOptions.from_failure(resumed, instance) if resumed else None
    job = dg.build_reconstructable_job("benchmarks.peers.orchestrator.on_dagster", "find_job", (name,))
    assert dg.execute_job(job, instance, reexecution_options=options).success


def resume() -> None:
    run_job("training", dg.DagsterInstance.get().get_runs(limit=1)[0].run_id)


def count() -> int:
    done = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], job_name="inline_6")
    return 6 * dg.DagsterInstance.get().get_runs_count(done)


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {
        "inline": run_inline,
        "processes": lambda length: run_job(f"processes_{length}"),
    }
    work.drive(chains, train=lambda: run_job("training"), resume=resume, count=count)
