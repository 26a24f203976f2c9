"""Deploys: decides, by policy and verdict, which arms a route has; people and checks use the same verbs."""

from contextlib import suppress
from itertools import groupby

from tidemill.clock import Clock
from tidemill.core.check import Verdict
from tidemill.core.policy import ModelPolicy
from tidemill.core.release import Release
from tidemill.core.resources import Board, Books
from tidemill.core.route import Arm, Route, RouteChange
from tidemill.errors import Conflict, InputError
from tidemill.ledger.events import record_event
from tidemill.ledger.releases import find_release
from tidemill.registry.pauses import find_pause, pause_text
from tidemill.registry.routing import arm_of, change, current, history, with_share
from tidemill.registry.stages import stage_of


class Deployer:
    """Changes the routes of one environment."""

    def __init__(self, books: Books, board: Board, clock: Clock, environment: str) -> None:
        self._books = books
        self._board = board
        self._clock = clock
        self._environment = environment

    def release(self, release: Release, policy: ModelPolicy, verdict: str = "", by: str = "policy") -> Route | None:
        """Let a release that passed its gate go live: as a canary, or whole where nobody answers yet.

        None where the policy wants an approval first, states no watch, the release was taken back before, or the
        model is frozen: an event says so.
        """
        if not policy.watch.values:
            self._tell("watch.missing", release, "no [[watch.values]] are stated: it takes no production traffic")
            return None
        if policy.rollout.approval and by == "policy":
            self._tell("approval.needed", release, "its policy asks for an approval: `tidemill models approve`")
            return None
        route = current(self._books, self._environment, release.name)
        champion = route.arm("champion") if route else None
        if route is not None and any(arm.release == release.label for arm in route.arms):
            self._board.publish(route)  # who wrote it may have died before
            return route
        if by == "policy" and (frozen := self._frozen(release.name)):
            self._tell("model.frozen", release, f"{frozen}: `tidemill models approve`, or `models thaw`")
            return None
        if by == "policy" and self._is_retired(release):
            self._tell("release.retired", release, "it answered before, and was taken back: `tidemill models promote`")
            return None
        if champion is None or not policy.rollout.canary:
            arms: tuple[Arm, ...] = (arm_of(release, "champion", 1.0),)
            kind: RouteChange = "first" if champion is None else "direct"
            reason = "the first release" if champion is None else "released whole: its policy asks for no canary"
        else:
            share = policy.rollout.share
            # The challenger also shadows the champion's answers: both are judged on the same rows.
            challenger, shadow = arm_of(release, "challenger", share), arm_of(release, "shadow", 0.0)
            arms = (with_share(champion, 1 - share), challenger, shadow)
            kind, reason = "canary", f"canary of {share:.0%}"
        return self._change(route, release.name, arms, kind, reason, by, verdict)

    def approve(self, release: Release, policy: ModelPolicy, by: str) -> Route | None:
        """Let a release go live that waits for a person; None where its policy states no watch.

        Raises
        ------
        InputError
            where it does not wait: nobody was asked, it answers, or it did and was taken back.
        """
        asked = [
            event
            for kind in ("approval.needed", "model.frozen")
            for event in self._books.events.find(kind=kind, subject=release.label)
            if event.environment == self._environment
        ]
        route = current(self._books, self._environment, release.name)
        answers = route is not None and any(arm.release == release.label for arm in route.arms)
        if not asked or answers or self._is_retired(release):
            said = "answers already" if answers else "waits for no approval"
            raise InputError(f"{release.label} {said}", f"to make it the champion: `models promote {release.label}`")
        return self.release(release, policy, by=by)

    def settle(self, model: str, verdict: Verdict) -> Route | None:
        """Act on a verdict about the challenger: promote it, or roll back to the champion."""
        route = current(self._books, self._environment, model)
        if route is None or (challenger := route.arm("challenger")) is None or challenger.release != verdict.subject:
            return None
        if self._frozen(model):
            return None
        champion = route.arm("champion")
        if verdict.action == "promote":
            arms = (with_share(challenger, 1.0, "champion"),)
            reason = f"promoted: {verdict.reason}"
            return self._change(route, model, arms, "promote", reason, "policy", verdict.id)
        if verdict.action == "rollback" and champion is not None:
            arms = (with_share(champion, 1.0),)
            reason = f"rolled back: {verdict.reason}"
            return self._change(route, model, arms, "rollback", reason, "policy", verdict.id)
        return None

    def fall_back(self, model: str, verdict: Verdict) -> Route | None:
        """Act on a verdict about the champion that calls for a rollback, if there was a champion before it.

        It never goes back to a release that it left for this one: two bad ones would take turns for ever.
        """
        route = current(self._books, self._environment, model)
        champion = route.arm("champion") if route else None
        if verdict.action != "rollback" or champion is None or champion.release != verdict.subject:
            return None
        if self._frozen(model):
            return None
        reigns = self._reigns(model)
        if len(reigns) < 2 or champion.release in [arm.release for arm in reigns[:-2]]:
            return None
        arms = (with_share(reigns[-2], 1.0),)
        reason = f"rolled back: {verdict.reason}"
        return self._change(route, model, arms, "rollback", reason, "policy", verdict.id, back=True)

    def promote(self, label: str, by: str, reason: str) -> Route:
        """Make a release the champion at once."""
        release = find_release(self._books, label)
        route = current(self._books, self._environment, release.name)
        arms = (arm_of(release, "champion", 1.0),)
        return self._change(route, release.name, arms, "manual", reason or "promoted by a person", by)

    def rollback(self, model: str, by: str, reason: str) -> Route:
        """Bring back the champion before the present one, and the next time the one before that.

        Raises
        ------
        InputError
            if there was none.
        """
        route = current(self._books, self._environment, model)
        below: list[Arm] = []
        for route_then in history(self._books, self._environment, model):
            champion = route_then.arm("champion")
            if route_then.back and below:
                below.pop()  # it was taken back: nobody goes back to that
            elif champion and (not below or below[-1].release != champion.release):
                below.append(champion)
        if len(below) < 2:
            raise InputError(f"model {model!r} has no earlier champion to go back to", "`tidemill models history`")
        arms = (with_share(below[-2], 1.0),)
        return self._change(route, model, arms, "manual", reason or "rolled back by a person", by, back=True)

    def _reigns(self, model: str) -> list[Arm]:
        """The champions of a model, one after the other; one that came back is there twice."""
        routes = history(self._books, self._environment, model)
        champions = [arm for route in routes if (arm := route.arm("champion"))]
        return [next(same) for _, same in groupby(champions, lambda arm: arm.release)]

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
    ) -> Route:
        return change(
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
        )

    def _is_retired(self, release: Release) -> bool:
        """Whether a release answered before: the same training again is no news."""
        return stage_of(release.label, history(self._books, self._environment, release.name)) == "retired"

    def _frozen(self, model: str) -> str:
        """Who froze a model, in words; empty where nobody did."""
        entry = find_pause(self._books, "model", model, environment=self._environment, now=self._clock.now())
        return pause_text(entry) if entry else ""

    def _tell(self, kind: str, release: Release, reason: str) -> None:
        with suppress(Conflict):  # it was told before
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
