"""What a run left: its page, its logs, its differences to another, its lineage, and its export."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.opening import Json, session_here
from tidemill.cli.running import runs
from tidemill.errors import NotFound, TidemillError

if TYPE_CHECKING:
    from tidemill.evidence.story import Story
    from tidemill.flow.session import Session

NOUNS = {"runs": runs}
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")]


@runs.command("show")
def show_run(run_id: RunId, json: Json = False) -> None:
    """One run: its versions, times, parameters, metrics and verdicts; each step and why it ran; its artifacts."""
    from tidemill.cli.showing import show
    from tidemill.evidence.story import story_of

    session = session_here()
    story = story_of(session.workspace.ledger, run_id)
    if json:
        output.as_json(story)
    else:
        show(story, _gone(session, story))


def _gone(session: "Session", story: "Story") -> set[str]:
    """The digests whose bytes were collected; none where the store of blobs does not tell."""
    kept = {artifact.digest for artifact in story.artifacts.values() if not artifact.transient}
    try:
        return {digest for digest in kept if not session.workspace.blobs.has(digest)}
    except TidemillError:
        return set()


@runs.command("logs")
def logs(
    run_id: RunId,
    step: Annotated[str, typer.Option(help="Only this step's.")] = "",
    full: Annotated[bool, typer.Option("--full", help="All that was kept, not only the end.")] = False,
    json: Json = False,
) -> None:
    """What the steps of a run printed, and the traceback of what failed."""
    from tidemill.evidence.identify import run_of
    from tidemill.evidence.story import steps_of

    session = session_here()
    books = session.workspace.ledger
    run = run_of(books, run_id)
    steps = steps_of(books, run.id)
    if step and step not in {one.step for one in steps}:
        known = ", ".join(dict.fromkeys(one.step for one in steps)) or "none"
        raise NotFound(f"run {output.short(run.id)} has no step {step!r}", f"its steps are: {known}")
    left = {one.id: one for one in steps if step in ("", one.step) and (one.log or one.log_blob)}
    texts = {key: _kept(session, one.log_blob, one.log) if full else one.log for key, one in left.items()}
    if json:
        output.as_json([{"step": one.step, "state": one.state, "log": texts[key]} for key, one in left.items()])
        return
    for key, one in left.items():
        output.out.print(f"── {one.step} ({one.state})", style="bold", markup=False)
        output.out.print(texts[key].rstrip("\n"), markup=False)
        if one.log_blob and not full:
            output.err.print(f"that is its end: `tidemill runs logs {output.short(run.id)} --step {one.step} --full`")
    if not left:
        output.err.print("no step of it left a log")


def _kept(session: "Session", digest: str, end: str) -> str:
    """The whole log of a step; its end where the rest was collected."""
    if not digest:
        return end
    try:
        return session.workspace.blobs.get(digest).decode(errors="replace")
    except NotFound:
        return f"(the whole log was collected; its end:)\n{end}"
