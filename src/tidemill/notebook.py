"""The calls of a notebook or a script: open a project, run one of its pipelines; `predict` comes from `compose`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemill.core.run import Run
    from tidemill.flow.session import Session


def open_session(
    folder: str | Path = "", environment: str = "production", *, frames: Mapping[str, Any] | None = None
) -> "Session":
    """Open the project in a folder, with its ledger, blobs, journal and tables.

    Parameters
    ----------
    folder
        The folder of `tidemill.toml`. Without one, the project at or above the current folder, as the commands find it.
    environment
        The environment: it has tables, a journal, an online store and routes of its own.
    frames
        Rows by the name of the source that they replace: frames of Polars, pandas or Arrow, or relations of DuckDB.
        They are copied now; a later change of the frame has no effect.

    Returns
    -------
    Session
        Pass it to `run` and `predict`.

    Raises
    ------
    ConfigurationError
        There is no `tidemill.toml` in the folder or above it, or the file has an error.
    NotFound
        `frames` names a source that `tidemill.toml` does not define.
    DataError
        A value of `frames` is not a frame.
    """
    # Imported late: `import tidemill` loads no store.
    from tidemill.compose.session import open_session as open_project
    from tidemill.project.configuration import find_project
    from tidemill.project.project import Project

    project = Project(find_project(Path(folder))) if folder else Project.find()
    return open_project(project, environment, frames=frames)


def run(session: "Session", pipeline: str, params: Mapping[str, Any] | None = None, *, engine: str = "") -> "Run":
    """Run a pipeline of the project, as `tidemill run` does.

    Parameters
    ----------
    session
        A session of `open_session`.
    pipeline
        The pipeline's name in `pipeline.py`, such as `"training"`.
    params
        Values for the pipeline's parameters, as `--param` takes them.
    engine
        `"inline"` runs the steps in this process; `"processes"` runs them in a pool of processes, `"container"` in
        containers. The default is that of the pipeline in `tidemill.toml`, otherwise `"inline"`.

    Returns
    -------
    Run
        The finished run; `metrics` has the numbers that its steps measured.

    Raises
    ------
    Stopped
        A check stopped the run. The message names the check and the reason.
    StepFailed
        A step raised an error. `log` has its traceback.
    NotFound
        `pipeline.py` has no such pipeline.
    InputError
        A parameter is missing, unknown or has the wrong type.
    """
    # Imported late: `import tidemill` loads no engine.
    from tidemill.flow.engine import run as run_pipeline

    finished, error = run_pipeline(session, session.pipeline(pipeline), params, engine=engine)
    if error is not None:
        raise error
    return finished
