"""Rollout: chooses the arms of a route, by the policy and verdicts or by a decision of a person."""

from contextlib import suppress
from typing import Any

from tidemill.clock import Clock
from tidemill.core.audit import POLICY
from tidemill.core.check import Verdict
from tidemill.core.policy import ModelPolicy
from tidemill.core.release import Release
from tidemill.core.resources import Board, Books
from tidemill.core.route import Arm, Route, RouteChange
from tidemill.errors import Conflict, InputError
from tidemill.ledger.decisions import Decision, require_reason
from tidemill.ledger.events import record_event
from tidemill.ledger.releases import find_release
from tidemill.registry.bindings import BINDING, ReleaseRegime, read_regime
from tidemill.registry.earlier import find_bound_before, list_champions, list_restorable
from tidemill.registry.pauses import find_pause, format_pause
from tidemill.registry.publication import publish_route
from tidemill.registry.refreshes import begin_canary
from tidemill.registry.retrying import retrying
from tidemill.registry.routing import (
    change_route,
    find_current_route,
    follow_canary_verdict,
    list_routes,
    make_arm,
    set_share,
)
from tidemill.registry.stages import find_stage
from tidemill.registry.waiting import RELEASE_WAITING, find_waiting

CANARY_REPLACED = "canary.replaced"


@retrying("deploy", "deploy_waiting", "apply_canary_verdict", "apply_watch_verdict", "recall", "promote", "set_key")
@retrying("bind")
@retrying("rollback", "unbind", guard="_list_serving")
class Deployer:
    """Changes the routes of one environment, each with an entry of the audit log, by a person or by the policy.

    `detail` has further facts for these entries, such as the token of the person, or the run of the policy.
    """

    def __init__(
        self, books: Books, board: Board, clock: Clock, environment: str, detail: dict[str, Any] | None = None
    ) -> None:
        self._books = books
        self._board = board
        self._clock = clock
        self._environment = environment
        self._detail = detail or {}

    def deploy(
        self,
        release: Release,
        policy: ModelPolicy,
        verdict: str = "",
        by: str = POLICY,
        decision: Decision | None = None,
    ) -> Route | None:
        """Put a release that passed its gate into production.

        It starts as a canary; without a champion, or if the policy has no canary, it becomes the champion at once. A
        release that was trained on the rows of one value of the key is bound to it, and takes no part in a canary.

        Return None and emit an event if the policy requires an approval or has no watch, if the release was rolled back
        before, if the model is frozen, or if the release waits for the end of a running canary.
        """
        if not policy.watch.values:
            because = "its policy has no [[watch.values]]: it receives no production traffic"
            self._emit("watch.missing", release, because)
            return None
        if policy.rollout.approval and by == POLICY:
            self._emit("approval.needed", release, "its policy requires an approval: `tidemill models approve`")
            return None
        route = find_current_route(self._books, self._environment, release.name)
        champion = route.arm("champion") if route else None
        if route is not None and any(arm.release == release.label for arm in route.arms):
            publish_route(self._books, self._board, route)  # the process that stored it may have died before
            return route
        if by == POLICY and (frozen := self._describe_freeze(release.name)):
            self._emit("model.frozen", release, f"{frozen}: `tidemill models approve`, or `models thaw`")
            return None
        if by == POLICY and self._is_retired(release):
            because = "it was in production before, and was rolled back: `tidemill models promote`"
            self._emit("release.retired", release, because)
            return None
        if route is not None and champion is not None and (regime := read_regime(release.data)) is not None:
            if regime.key != policy.regimes.key:
                raise InputError(
                    f"{release.label} was trained on the rows with {regime.key} = {regime.value!r}, and the key of the "
                    f"regimes is {policy.regimes.key!r}",
                    "train it again, or restore the key under [regimes] in tidemill.toml",
                )
            return self._bind(route, release, regime, by, verdict, decision=decision)
        running = route.arm("challenger") if route else None
        if by == POLICY and running is not None and policy.rollout.during_canary == "wait":
            self._emit(
                RELEASE_WAITING,
                release,
                f"the canary of {running.release} continues, and {release.label} starts after it; to start it now: "
                f"`tidemill models approve {release.label} --reason …`",
            )
            return None
        if champion is None or not policy.rollout.canary:
            arms: tuple[Arm, ...] = (make_arm(release, "champion", 1.0),)
            kind: RouteChange = "first" if champion is None else "direct"
            reason = "the first release" if champion is None else "released for all requests: its policy has no canary"
        else:
            arms, about = begin_canary(self._books, release, champion, policy)
            kind, reason = "canary", f"canary of {about}"
        if running is not None:
            reason += f"; it replaces the canary of {running.release}, which was undecided"
            self._emit(CANARY_REPLACED, release, f"it replaced the canary of {running.release}, which was undecided")
        return self._change(
            route, release.name, arms, kind, reason, by, verdict, key=policy.regimes.key, decision=decision
        )

    def approve(self, release: Release, policy: ModelPolicy, by: str, reason: str) -> Route | None:
        """Put a release that waits for an approval into production; return None if its policy has no watch.

        Raises
        ------
        InputError
            if there is no reason, or the release does not wait for an approval, is in production, or was rolled back.
        """
        requests = [
            event
            for kind in ("approval.needed", "model.frozen", RELEASE_WAITING)
            for event in self._books.events.find(kind=kind, subject=release.label)
            if event.environment == self._environment
        ]
        route = find_current_route(self._books, self._environment, release.name)
        is_in_production = route is not None and any(arm.release == release.label for arm in route.arms)
        if not requests or is_in_production or self._is_retired(release):
            problem = "is in production already" if is_in_production else "does not wait for an approval"
            raise InputError(f"{release.label} {problem}", f"make it the champion: `models promote {release.label}`")
        decision = self._decision("approved", release.label, reason)
        return self.deploy(release, policy, by=by, decision=decision)

    def deploy_waiting(self, policy: ModelPolicy) -> Route | None:
        """Start the newest release that waits for the end of a canary, if no canary runs now.

        Return None without such a release, or if a person has changed the route of the model since.
        """
        route = find_current_route(self._books, self._environment, policy.name)
        if route is None or route.arm("challenger") is not None:
            return None
        newest = find_waiting(self._books, self._environment, policy.name, self._list_routes(policy.name))
        if newest is None:
            return None
        return self.deploy(newest, policy)

    def apply_canary_verdict(self, model: str, verdict: Verdict) -> Route | None:
        """Apply a verdict on the challenger: promote it, change its share, or end its canary."""
        route = find_current_route(self._books, self._environment, model)
        if route is None or (challenger := route.arm("challenger")) is None or challenger.release != verdict.subject:
            return None
        if self._describe_freeze(model):
            return None
        if (change := follow_canary_verdict(route, challenger, verdict)) is None:
            return None
        kind, arms, reason = change
        return self._change(route, model, arms, kind, reason, POLICY, verdict.id)

    def apply_watch_verdict(self, model: str, verdict: Verdict) -> Route | None:
        """Apply a verdict of the watch: if it requires a rollback, restore the previous champion.

        Return None if there is no previous champion, or if this champion was itself restored before: otherwise two
        bad releases would alternate. A verdict on a bound release restores the one that was bound before it; without
        one, or if the champion is better, the champion serves its rows again.
        """
        route = find_current_route(self._books, self._environment, model)
        champion = route.arm("champion") if route else None
        if route is not None and verdict.action == "rollback" and not self._describe_freeze(model):
            values = [arm.value for arm in route.bound if arm.release == verdict.subject]
            if values and (champion is None or champion.release != verdict.subject):
                before = None if verdict.check == BINDING else find_bound_before(self._list_routes(model), values[0])
                return self._unbind(route, values[0], before, f"rolled back: {verdict.reason}", POLICY, verdict.id)
        if verdict.action != "rollback" or champion is None or champion.release != verdict.subject:
            return None
        if self._describe_freeze(model):
            return None
        past_champions = list_champions(self._list_routes(model))
        if len(past_champions) < 2 or champion.release in [arm.release for arm in past_champions[:-2]]:
            return None
        arms = (set_share(past_champions[-2], 1.0),)
        reason = f"rolled back: {verdict.reason}"
        return self._change(route, model, arms, "rollback", reason, POLICY, verdict.id, back=True)

    def recall(self, model: str, verdict: Verdict) -> Route | None:
        """Make an earlier champion the champion again, by a verdict that its regime has returned.

        Return None if the champion has changed since, the model is frozen, or it is the champion. A canary ends.
        """
        route = find_current_route(self._books, self._environment, model)
        champion = route.arm("champion") if route else None
        if verdict.action != "recall" or route is None or champion is None or champion.release != verdict.subject:
            return None
        if self._describe_freeze(model) or champion.release == verdict.reference:
            return None
        release = find_release(self._books, verdict.reference)
        reason = f"recalled: {verdict.reason}"
        if (running := route.arm("challenger")) is not None and running.release != release.label:
            reason += f"; it replaces the canary of {running.release}, which was undecided"
            self._emit(CANARY_REPLACED, release, f"its recall replaced the canary of {running.release}")
        return self._change(route, model, (make_arm(release, "champion", 1.0),), "recall", reason, POLICY, verdict.id)

    def promote(self, label: str, by: str, reason: str) -> Route:
        """Make a release the champion immediately."""
        release = find_release(self._books, label)
        route = find_current_route(self._books, self._environment, release.name)
        arms = (make_arm(release, "champion", 1.0),)
        decision = self._decision("promoted", release.label, reason)
        return self._change(route, release.name, arms, "manual", decision.reason, by, decision=decision)

    def rollback(self, model: str, by: str, reason: str) -> Route:
        """Restore the previous champion; another rollback restores the one before it.

        Raises
        ------
        InputError
            if there is no earlier champion.
        """
        route = find_current_route(self._books, self._environment, model)
        champions = list_restorable(self._list_routes(model))
        if len(champions) < 2:
            raise InputError(f"model {model!r} has no earlier champion", "see its history: `tidemill models history`")
        arms = (set_share(champions[-2], 1.0),)
        decision = self._decision("rolled back to", champions[-2].release, reason)
        return self._change(route, model, arms, "manual", decision.reason, by, back=True, decision=decision)

    def set_key(self, policy: ModelPolicy) -> Route | None:
        """Publish the column that names the regimes, if the policy has another one; bound releases are unbound then."""
        route = find_current_route(self._books, self._environment, policy.name)
        key = policy.regimes.key
        if route is None or route.key == key or self._describe_freeze(policy.name):
            return None
        reason = f"the column {key!r} names the regime of a row" if key else "no column names the regime of a row"
        unbound = tuple(arm for arm in route.arms if arm.role != "bound")
        return self._change(route, policy.name, unbound, "key", reason, POLICY, key=key)

    def bind(self, label: str, value: str, by: str, reason: str) -> Route:
        """Bind a release to a value of the key.

        Raises
        ------
        InputError
            if its model has no champion, or its route has no key.
        """
        release = find_release(self._books, label)
        route = self._require_key(release.name)
        action = f"bound to {route.key} = {value!r}:"
        decision = self._decision(action, release.label, reason)
        regime = ReleaseRegime(key=route.key, value=value)
        return self._bind(route, release, regime, by, reason=reason, decision=decision)

    def unbind(self, model: str, value: str, by: str, reason: str) -> Route:
        """Let the champion serve the rows of a value of the key again.

        Raises
        ------
        InputError
            if no release is bound to the value.
        """
        route = self._require_key(model)
        if (bound := route.find_bound(value)) is None:
            known = ", ".join(repr(arm.value) for arm in route.bound) or "none"
            raise InputError(
                f"no release of model {model!r} is bound to {route.key} = {value!r}",
                f"the values with a bound release: {known}",
            )
        action = f"unbound from {route.key} = {value!r}:"
        decision = self._decision(action, bound.release, reason)
        return self._unbind(route, value, None, decision.reason, by, decision=decision)

    def _require_key(self, model: str) -> Route:
        route = find_current_route(self._books, self._environment, model)
        if route is None or route.arm("champion") is None:
            raise InputError(f"model {model!r} has no champion", "train one: `tidemill run training`")
        if not route.key:
            raise InputError(
                f"no key names the regimes of model {model!r}",
                'set it, such as key = "vehicle" under [regimes] in tidemill.toml, then `tidemill run recalling`',
            )
        return route

    def _bind(
        self,
        route: Route,
        release: Release,
        regime: ReleaseRegime,
        by: str,
        verdict: str = "",
        reason: str = "",
        decision: Decision | None = None,
    ) -> Route:
        before = route.find_bound(regime.value) or route.arm("champion")
        assert before is not None
        reason = reason or f"it serves the rows with {regime.key} = {regime.value!r} in place of {before.release}"
        kept = tuple(arm for arm in route.arms if arm.role != "bound" or arm.value != regime.value)
        arms = (*kept, make_arm(release, "bound", 0.0, regime.value))
        return self._change(route, release.name, arms, "bind", reason, by, verdict, key=regime.key, decision=decision)

    def _unbind(
        self,
        route: Route,
        value: str,
        before: Arm | None,
        reason: str,
        by: str,
        verdict: str = "",
        decision: Decision | None = None,
    ) -> Route:
        kept = tuple(arm for arm in route.arms if arm.role != "bound" or arm.value != value)
        arms = (*kept, before) if before else kept
        back = before is not None
        return self._change(
            route, route.model, arms, "unbind", reason, by, verdict, back=back, key=route.key, decision=decision
        )

    def _list_serving(self, model: str) -> list[str]:
        route = find_current_route(self._books, self._environment, model)
        return [arm.release for arm in route.arms if arm.role in ("champion", "bound")] if route else []

    def _list_routes(self, model: str) -> list[Route]:
        return list_routes(self._books, self._environment, model)

    def _decision(self, action: str, subject: str, reason: str) -> Decision:
        return Decision(action=action, subject=subject, reason=require_reason(reason), detail=self._detail)

    def _change(
        self,
        before: Route | None,
        model: str,
        arms: tuple[Arm, ...],
        kind: RouteChange,
        reason: str,
        by: str,
        verdict: str = "",
        *,
        back: bool = False,
        key: str | None = None,
        decision: Decision | None = None,
    ) -> Route:
        """Change the route; without a `key`, its key and its bound releases stay, whatever the other arms are."""
        earlier = before.key if before else ""
        if kind not in ("bind", "unbind") and before is not None and key in (None, earlier):
            arms = (*(arm for arm in arms if arm.role != "bound"), *before.bound)
        return change_route(
            self._books,
            self._board,
            self._clock,
            before=before,
            environment=self._environment,
            model=model,
            arms=arms,
            kind=kind,
            reason=reason,
            by=by,
            verdict=verdict,
            back=back,
            key=earlier if key is None else key,
            decision=decision,
            detail=self._detail,
        )

    def _is_retired(self, release: Release) -> bool:
        """Return whether a release was in production before; the policy must not deploy it again."""
        return find_stage(release.label, list_routes(self._books, self._environment, release.name)) == "retired"

    def _describe_freeze(self, model: str) -> str:
        """Return who froze a model and why; empty if it is not frozen."""
        entry = find_pause(self._books, "model", model, environment=self._environment, now=self._clock.now())
        return format_pause(entry) if entry else ""

    def _emit(self, kind: str, release: Release, reason: str) -> None:
        with suppress(Conflict):  # the event exists already
            record_event(
                self._books,
                self._clock,
                kind,
                release.label,
                environment=self._environment,
                key=f"{kind}/{release.label}",
                cause=release.run,
                payload={"reason": reason, "model": release.name},
            )
