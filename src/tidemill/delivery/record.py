"""Records a build with its verdicts and its event, in one transaction."""

from collections.abc import Mapping, Sequence

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.build import Build
from tidemill.core.check import Outcome, Verdict
from tidemill.core.context import Context
from tidemill.core.event import BuildPayload
from tidemill.core.resources import Books
from tidemill.delivery.checkout import Checkout
from tidemill.delivery.environment import BuildEnvironment
from tidemill.delivery.judgement import Judgement, decide_state
from tidemill.errors import Conflict
from tidemill.faults import maybe_crash
from tidemill.ledger.events import record_event

_TRIES = 20
_WORDS = {"passed": "passed", "refused": "is refused", "error": "cannot be judged"}


def record_build(
    checkout: Checkout,
    environment: BuildEnvironment,
    judgements: Sequence[Judgement],
    artifacts: Mapping[str, str],
    image: str,
    books: Books,
    clock: Clock,
    context: Context,
) -> Build:
    """Write the build of a commit, its verdicts and its event; a build that the same run has recorded is returned."""
    for recorded in books.builds.find(run=context.run):
        return recorded
    maybe_crash("build is decided")
    state, reason = decide_state(judgements)
    for attempt in range(_TRIES):
        numbers = [build.number for build in books.builds.find(project=checkout.project)]
        build = Build(
            id=clock.mint(),
            project=checkout.project,
            number=max(numbers, default=0) + 1,
            commit=checkout.commit,
            state=state,
            created=clock.now(),
            environment=context.environment,
            branch=checkout.branch,
            base=checkout.base,
            authors=checkout.authors,
            pusher=checkout.pusher,
            run=context.run,
            code=checkout.code,
            policy=checkout.policy,
            lock=checkout.lock,
            python=environment.python,
            packages=environment.deployed,
            system=environment.system,
            artifacts=dict(artifacts),
            image=image,
            reason=reason,
        )
        try:
            _write(build, judgements, books, clock, context)
        except Conflict:  # another run took the number
            if attempt == _TRIES - 1:
                raise
            continue
        maybe_crash("build is recorded")
        return build
    raise Conflict(f"other runs keep recording builds of {checkout.project}", "run CI again")


def conclude(checkout: Checkout, build: Build | None, unpublished: Sequence[str] = ()) -> Verdict:
    """Return the verdict on a commit; `unpublished` is what could not be written to the commit."""
    if build is None:
        return Verdict(check="ci", subject=checkout.commit, outcome="pass", action="ignore", reason=checkout.unchanged)
    outcome: Outcome = {"passed": "pass", "refused": "fail", "error": "undecided"}[build.state]  # type: ignore[assignment]
    return Verdict(
        check="ci",
        subject=build.commit,
        outcome=outcome,
        action="proceed" if build.state == "passed" else "stop",
        reason=f"build {build.label} {_WORDS[build.state]}" + (f": {build.reason}" if build.reason else ""),
        evidence={"build": build.id, "number": build.number, "unpublished": list(unpublished)},
        reference=build.base,
    )


def _write(build: Build, judgements: Sequence[Judgement], books: Books, clock: Clock, context: Context) -> None:
    payload = BuildPayload(
        build=build.id,
        number=build.number,
        commit=build.commit,
        branch=build.branch,
        state=build.state,
        reason=build.reason,
    )
    with books.transaction(durable=True):
        books.builds.add(build)
        for judgement in judgements:
            verdict = judgement.to_verdict(build.commit)
            fields = {"id": clock.mint(), "environment": context.environment, "run": context.run, "time": clock.now()}
            books.verdicts.add(replace(verdict, **fields))
        record_event(
            books,
            clock,
            "build",
            build.project,
            environment=context.environment,
            key=f"build/{build.id}",
            cause=str(context.cause.get("event", "")),
            payload=to_builtins(payload),
        )
