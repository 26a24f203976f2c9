"""Alerts: tells those whom the policy names of what calls for something; `log`, or any address that Apprise knows.

Who was told of what is an event of kind `alert`: the same is not told again within the policy's `quiet`, and that
all is well again is told once.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from msgspec import Struct, to_builtins

from tidemill.clock import Clock, parse_duration
from tidemill.core.check import PerformanceEvidence, Verdict
from tidemill.core.event import AlertPayload
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.resources import Books
from tidemill.ledger.events import record_event
from tidemill.monitoring.picture import picture
from tidemill.telemetry import get_logger

log = get_logger("alerts")
_LOOK_BACK = 20
_DRAWN = 60

State = Literal["bad", "well"]


class Matter(Struct, frozen=True, kw_only=True):
    """One thing to tell of: `subject` is the same each time, `line` says how it is now, `drawn` is its picture."""

    subject: str
    state: State
    line: str
    addresses: tuple[str, ...]
    drawn: str = ""


def alert(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, clock: Clock, environment: str, run: str
) -> list[str]:
    """Tell of the verdicts of one run, in one message to each address; whose message arrived.

    A verdict goes to the `notify` of its own value, or else of the watch. An address that fails is logged, keeps nobody
    else from being told, and is tried again at the next turn.
    """
    matters = [matter for one in verdicts if (matter := _matter(policy, one, books)) is not None]
    return _tell(
        f"{policy.name} ({environment})", matters, f"runs/{run}", policy.watch.quiet, books, clock, environment
    )


def alert_all(
    policy: Policy,
    books: Books,
    clock: Clock,
    environment: str,
    model: str,
    subject: str,
    reason: str,
    state: State = "bad",
) -> list[str]:
    """Tell those who watch a model, or any model where none is named, of something that no verdict says."""
    watches = [one.watch for name, one in policy.models.items() if model in ("", name)]
    addresses = tuple(dict.fromkeys(address for watch in watches for address in watch.notify))
    matter = Matter(subject=subject, state=state, line=f"{subject}: {reason}", addresses=addresses)
    quiet = min((watch.quiet for watch in watches), key=parse_duration, default="1d")
    try:
        return _tell(f"{policy.name} ({environment})", [matter], "jobs", quiet, books, clock, environment)
    except Exception:
        log.exception("nobody could be told of %s: %s", subject, reason)
        return []


def unheard(policy: Policy) -> list[str]:
    """What keeps those whom the policy names from being told, found out before it matters; nothing is sent."""
    watches = [model.watch for model in policy.models.values()]
    lists = [named for watch in watches for named in (watch.notify, *(value.notify for value in watch.values))]
    addresses = sorted({address for named in lists for address in named} - {"log"})
    if not addresses:
        return []
    try:
        from apprise import Apprise
    except ImportError:
        return ["nobody can be told of anything: pip install 'tidemill[alerts]'"]
    wrong = [_scheme(address) for address in addresses if not Apprise().add(_filled(address))]
    return [f"Apprise knows no {one}://… as in [watch] notify: nobody is told there" for one in wrong]


def _matter(policy: ModelPolicy, verdict: Verdict, books: Books) -> Matter | None:
    if verdict.needs_no_action and verdict.outcome != "pass":
        return None
    watched = _metric(verdict) or verdict.check
    own = next((value.notify for value in policy.watch.values if value.value == watched), ())
    addresses = own or policy.watch.notify
    if not addresses:
        return None
    subject = f"{policy.name}: {watched}"
    if verdict.needs_no_action:
        line = f"{watched} is well again: {verdict.reason}"
        return Matter(subject=subject, state="well", line=line, addresses=addresses)
    earlier = books.verdicts.find(model=policy.name, check=verdict.check, newest=True, limit=_DRAWN)
    same = [one for one in reversed(earlier) if _metric(one) == _metric(verdict)]
    return Matter(
        subject=subject,
        state="bad",
        line=f"{watched} → {verdict.action}: {verdict.reason} ({verdict.subject})",
        addresses=addresses,
        drawn=picture(subject, same),
    )


def _metric(verdict: Verdict) -> str:
    return verdict.read(PerformanceEvidence).metric if verdict.check == "performance" else ""


def _tell(
    title: str, matters: list[Matter], page: str, quiet: str, books: Books, clock: Clock, environment: str
) -> list[str]:
    told: dict[str, list[str]] = {}
    arrived = []
    for address in dict.fromkeys(address for matter in matters for address in matter.addresses):
        news = [
            one
            for one in matters
            if address in one.addresses and _is_news(one, address, quiet, books, clock, environment)
        ]
        if not news:
            continue
        worst = "all well again" if all(one.state == "well" for one in news) else "needs a look"
        link = f"{os.environ['TIDEMILL_PAGES'].rstrip('/')}/{page}" if os.environ.get("TIDEMILL_PAGES") else ""
        body = "\n".join([*(one.line for one in news), *([link] if link else [])])
        if _send(address, f"{title}: {worst}", body, [one.drawn for one in news if one.drawn]):
            arrived.append(f"{_scheme(address)}: {', '.join(one.subject for one in news)}")
            for one in news:
                told.setdefault(one.subject, []).append(_name(address))
    for one in matters:
        if one.subject in told:
            payload = AlertPayload(state=one.state, reason=one.line, to=told[one.subject])
            record_event(books, clock, "alert", one.subject, environment=environment, payload=to_builtins(payload))
    return arrived


def _is_news(matter: Matter, address: str, quiet: str, books: Books, clock: Clock, environment: str) -> bool:
    """Whether an address has not heard this yet, or so long ago that it is told again."""
    for event in books.events.find(
        kind="alert", subject=matter.subject, environment=environment, newest=True, limit=_LOOK_BACK
    ):
        sent = event.read(AlertPayload)
        if _name(address) in sent.to:
            same = sent.state == matter.state
            return not same or (matter.state == "bad" and clock.now() - event.time >= parse_duration(quiet))
    return matter.state == "bad"


def _name(address: str) -> str:
    """An address in the ledger: it may hold a password."""
    return f"{_scheme(address)}:{hashlib.sha256(address.encode()).hexdigest()[:12]}"


def _scheme(address: str) -> str:
    return address.partition("://")[0]


def _filled(address: str) -> str:
    """An address with the variables of the environment in it: a password is none of the policy's."""
    return re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), address)


def _send(address: str, title: str, body: str, drawn: Iterable[str]) -> bool:
    if address == "log":
        log.warning("%s: %s", title, body.replace("\n", "; "))
        return True
    try:
        from apprise import Apprise
    except ImportError:
        log.error("%s: %s; nobody was told: pip install 'tidemill[alerts]'", title, body.replace("\n", "; "))
        return False
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"picture-{number}.svg" for number, _ in enumerate(drawn)]
            for file, text in zip(files, drawn, strict=True):
                file.write_text(text, encoding="utf-8")
            sender, attached = Apprise(), [str(file) for file in files] or None
            sent = sender.add(_filled(address)) and sender.notify(body, title, attach=attached)
    except Exception:
        log.exception("%s could not be told: %s", _scheme(address), title)
        return False
    if not sent:
        log.error("%s could not be told: %s: %s", _scheme(address), title, body.replace("\n", "; "))
    return bool(sent)
