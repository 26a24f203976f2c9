"""Small pipelines for daemons that are killed: one emits a verdict, one trains, one returns its parameter."""

from datetime import datetime

from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import pipeline, step


@step(cache=False)
def judged(now: datetime) -> Verdict:
    return Verdict(check="drift", subject="kit/1", outcome="fail", action="retrain", reason=f"at {now}")


@step(cache=False)
def trained(context: Context) -> str:
    return context.run


@step(cache=False)
def noted(message: str) -> str:
    return message


@pipeline
def judging(now: datetime) -> None:
    judged(now)


@pipeline
def training() -> None:
    noted(trained())


@pipeline
def noting(message: str = "nothing") -> None:
    noted(message)
