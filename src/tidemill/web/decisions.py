"""Decisions of people on the pages: approvals, promotions and rollbacks, each with its author and its reason."""

from collections.abc import Callable
from typing import NamedTuple

from tidemill.access.tokens import require_valid
from tidemill.clock import Clock
from tidemill.core.audit import AuditEntry
from tidemill.core.build import Build
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Board, Books, Packages
from tidemill.core.route import Route
from tidemill.core.token import Token
from tidemill.core.trigger import Job
from tidemill.errors import AccessDenied, InputError, NotFound
from tidemill.ledger.decisions import require_reason
from tidemill.ledger.releases import find_release
from tidemill.models.usable import require_predictions
from tidemill.registry.deployments import approve, find_build, request_promotion
from tidemill.registry.rollout import Deployer
from tidemill.web.visitors import Visitor


class Desk(NamedTuple):
    """What decisions need: the stores, the policy of a model by its name, and what happens after each decision."""

    books: Books
    board: Board
    packages: Packages
    clock: Clock
    environment: str
    find_policy: Callable[[str], ModelPolicy]
    finish: Callable[[], object]


class DecisionRequest(NamedTuple):
    """What the owner of a token decides: on a release or a model (`subject`), and why."""

    subject: str
    reason: str
    token: Token

    @property
    def actor(self) -> str:
        """Return who decides."""
        return self.token.owner


class Action(NamedTuple):
    """A decision that a page offers, and the function that carries it out; it returns the new record."""

    title: str
    subject: str
    perform: Callable[[Desk, Deployer, DecisionRequest], Route | AuditEntry | Job]


def _approve(desk: Desk, deployer: Deployer, request: DecisionRequest) -> Route:
    release = find_release(desk.books, request.subject)
    route = deployer.approve(release, desk.find_policy(release.name), request.actor, request.reason)
    if route is None:
        raise InputError(
            f"{release.label} cannot serve: nothing watches model {release.name!r}",
            "add [[watch.values]] to tidemill.toml",
        )
    return route


def _promote(desk: Desk, deployer: Deployer, request: DecisionRequest) -> Route:
    release = find_release(desk.books, request.subject)
    require_predictions(desk.packages.load(release.package))
    return deployer.promote(release.label, request.actor, request.reason)


def _roll_back(_: Desk, deployer: Deployer, request: DecisionRequest) -> Route:
    return deployer.rollback(request.subject, request.actor, request.reason)


def _approve_build(desk: Desk, _: Deployer, request: DecisionRequest) -> AuditEntry:
    build, environment = _read_build(desk, request)
    with desk.books.transaction(durable=True):
        return approve(desk.books, desk.clock, build, environment, actor=request.actor, reason=request.reason)


def _promote_build(desk: Desk, _: Deployer, request: DecisionRequest) -> Job:
    """Request the deployment of a build; the run of the daemon judges it by the rules of the environment."""
    build, environment = _read_build(desk, request)
    with desk.books.transaction(durable=True):
        return request_promotion(desk.books, desk.clock, build, environment, actor=request.actor, reason=request.reason)


def _read_build(desk: Desk, request: DecisionRequest) -> tuple[Build, str]:
    name, arrow, environment = request.subject.partition(" → ")
    if not arrow:
        raise InputError(
            f"{request.subject!r} names no environment", "send a build and an environment: 12 → production"
        )
    require_valid(request.token, desk.clock.now(), environment)  # not only in the environment of these pages
    return find_build(desk.books, name), environment


BUILD_ACTIONS = {
    "approve-build": Action("Approve", "a build", _approve_build),
    "promote-build": Action("Deploy", "a build", _promote_build),
}
ACTIONS = BUILD_ACTIONS | {
    "approve": Action("Approve", "a release", _approve),
    "promote": Action("Promote", "a release", _promote),
    "roll-back": Action("Roll back", "a model", _roll_back),
}


def decide(desk: Desk, name: str, form: dict[str, str], visitor: Visitor) -> Route | AuditEntry | Job:
    """Decide as the owner of the visitor's token; return the new record, such as a route.

    Raises
    ------
    AccessDenied
        if the visitor may not decide.
    InputError
        if the reason or the subject is missing, or the decision is not possible.
    """
    action = ACTIONS.get(name)
    if action is None:
        raise NotFound(f"there is no decision {name!r}", f"the decisions are: {', '.join(ACTIONS)}")
    if visitor.grant is None or not visitor.may_decide:
        raise AccessDenied("a decision needs a token with the role approver", "log in with such a token", 403)
    subject = form.get("subject", "").strip()
    if not subject:
        raise InputError("the decision has no subject", f"send the name of {action.subject} as `subject`")
    reason = require_reason(form.get("reason", ""))
    token = visitor.grant.token
    detail = {"token": token.name, "by": "page"}
    deployer = Deployer(desk.books, desk.board, desk.clock, desk.environment, detail)
    decided = action.perform(desk, deployer, DecisionRequest(subject, reason, token))
    desk.finish()
    return decided
