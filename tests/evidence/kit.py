"""A project for lineage tests: pipelines with fan-out, a join, a value that several steps output, and a failure."""

import polars as pl

from tests.flow.kit import Mill
from tidemill import pipeline, step
from tidemill.core.check import Verdict
from tidemill.core.run import Metrics, Run
from tidemill.evidence.identify import identify
from tidemill.evidence.lineage import Direction, Lineage, trace_lineage


@step
def read(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"a": range(rows), "b": ["é"] * rows})


@step(transient=True)
def clean(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("a") >= 0)


@step
def measure(frame: pl.DataFrame, scale: float) -> Metrics:
    return Metrics(values={"loss": scale / frame.height}, about="test")


@step
def count(frame: pl.DataFrame) -> int:
    return frame.height


@step
def join(counts: list[int]) -> int:
    return sum(counts)


@step
def judge(total: int, metrics: Metrics) -> Verdict:
    reason = f"{total} of them, loss {metrics.values['loss']}"
    return Verdict(check="size", subject="rows", outcome="pass", action="proceed", reason=reason)


@pipeline
def sizing(rows: int = 8, scale: float = 1.0) -> None:
    frame = clean(read(rows))
    judge(join([count(frame), count(read(2))]), measure(frame, scale))


@step
def fail(rows: int) -> int:
    print("before the failure")
    raise RuntimeError(f"[bold]{rows}[/bold] is too many — ünïcode")


@pipeline
def failing(rows: int = 3) -> None:
    count(read(fail(rows)))


def trace(mill: Mill, text: str, direction: Direction = "up", depth: int = 0) -> Lineage:
    """Return the lineage of the record with an id."""
    return trace_lineage(mill.books, identify(mill.books, text), direction, depth=depth)


def list_steps(lineage: Lineage) -> list[str]:
    """Return the names of the steps in a lineage."""
    return sorted(str(node.facts["step"]) for node in lineage.nodes.values() if node.kind == "step")


def run_failing(mill: Mill) -> Run:
    """Run the failing pipeline and return its run."""
    done, error = mill.try_to_run(failing)
    assert error is not None
    return done
