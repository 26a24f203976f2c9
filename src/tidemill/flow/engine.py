"""Runs a pipeline from plan to ledger: the one way in which anything is run."""

from collections.abc import Mapping
from typing import Any

from tidemill.core.pipeline import Pipeline
from tidemill.core.run import Run
from tidemill.errors import Stopped, TidemillError
from tidemill.flow.execute import Execution, Progress
from tidemill.flow.plan import plan
from tidemill.flow.record import Recorder
from tidemill.flow.session import Session


def run(
    session: Session,
    pipeline: Pipeline,
    params: Mapping[str, Any] | None = None,
    *,
    cause: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Run, TidemillError | None]:
    """Run a pipeline; what became of it, and the error that ended it, if one did.

    Bad parameters raise before there is a run; all else leaves a run in the ledger.
    """
    graph = plan(pipeline, params or {}, session.project, session.clock)
    recorder = Recorder(session, graph, cause or {"by": "hand"}, session.workspace.environment)
    try:
        Execution(session, graph, recorder, progress).walk()
    except Stopped as stopped:
        return recorder.close("stopped", stopped.problem), stopped
    except TidemillError as failed:
        return recorder.close("failed", failed.problem), failed
    except KeyboardInterrupt:
        recorder.close("interrupted", "interrupted by hand")
        raise
    except Exception as unforeseen:
        recorder.close("failed", f"{type(unforeseen).__name__}: {unforeseen}")
        raise
    return recorder.close("done"), None
