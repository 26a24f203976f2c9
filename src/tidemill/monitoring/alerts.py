"""Alerts: send messages about verdicts that require an action to the policy's addresses: `log`, or an Apprise URL.

Each alert is an event of kind `alert`: the same message is not sent again within the policy's `quiet`, and a recovery
is reported once.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct, to_builtins

from tidemill.clock import Clock, parse_duration
from tidemill.core.check import PerformanceEvidence, Verdict
from tidemill.core.event import AlertPayload
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.resources import Books
from tidemill.credentials import fill_secrets
from tidemill.errors import ConfigurationError
from tidemill.ledger.events import record_event
from tidemill.monitoring.picture import draw_picture
from tidemill.monitoring.standing import read_memory
from tidemill.telemetry import get_logger

log = get_logger("alerts")
_MAX_EVENTS = 20
_MAX_POINTS = 60

State = Literal["bad", "well"]


class AlertMessage(Struct, frozen=True, kw_only=True):
    """A line of an alert: `subject` identifies repeated messages, `line` is the text, `picture` is an SVG or empty.

    A message with `since` is sent once after that time, and not repeated.
    """

    subject: str
    state: State
    line: str
    addresses: tuple[str, ...]
    picture: str = ""
    since: datetime | None = None


class _RetrainingEvidence(Struct, frozen=True):
    checks: list[str] = []


def alert(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, clock: Clock, environment: str, run: str
) -> list[str]:
    """Send the verdicts of one run in one message to each address; return the addresses that received it.

    A verdict is sent to `notify` of its value, or else of the watch. If an address fails, the error is logged, the
    other addresses receive the message, and the next evaluation tries the address again.
    """
    messages = [message for verdict in verdicts if (message := _build_message(policy, verdict, books)) is not None]
    return _send_messages(
        f"{policy.name} ({environment})", messages, f"runs/{run}", policy.watch.quiet, books, clock, environment
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
    """Send a message without a verdict to the addresses of a model's watch; of all models if `model` is empty."""
    watches = [model_policy.watch for name, model_policy in policy.models.items() if model in ("", name)]
    addresses = tuple(dict.fromkeys(address for watch in watches for address in watch.notify))
    message = AlertMessage(subject=subject, state=state, line=f"{subject}: {reason}", addresses=addresses)
    quiet = min((watch.quiet for watch in watches), key=parse_duration, default="1d")
    try:
        return _send_messages(f"{policy.name} ({environment})", [message], "jobs", quiet, books, clock, environment)
    except Exception:
        log.exception("the alert about %s could not be sent: %s", subject, reason)
        return []


def alert_release(
    policy: ModelPolicy, release: str, reason: str, books: Books, clock: Clock, environment: str, run: str
) -> list[str]:
    """Send a message about a release to the addresses of its model's watch; log the message if it cannot be sent."""
    message = AlertMessage(subject=release, state="bad", line=f"{release}: {reason}", addresses=policy.watch.notify)
    title = f"{policy.name} ({environment})"
    try:
        return _send_messages(title, [message], f"runs/{run}", policy.watch.quiet, books, clock, environment)
    except Exception:
        log.exception("the alert about %s could not be sent: %s", release, reason)
        return []


def check_addresses(policy: Policy) -> list[str]:
    """Return the problems that would prevent alerts to the policy's addresses; send nothing."""
    watches = [model.watch for model in policy.models.values()]
    lists = [notify for watch in watches for notify in (watch.notify, *(value.notify for value in watch.values))]
    addresses = sorted({address for notify in lists for address in notify} - {"log"})
    if not addresses:
        return []
    try:
        from apprise import Apprise
    except ImportError:
        return ["no alert can be sent: install the extra: pip install 'tidemill[alerts]'"]
    schemes = [_scheme(address) for address in addresses if not Apprise().add(_fill(address))]
    return [
        f"Apprise does not support {scheme}://… in [watch] notify: no alert is sent to this address"
        for scheme in schemes
    ]


def _build_message(policy: ModelPolicy, verdict: Verdict, books: Books) -> AlertMessage | None:
    memory = read_memory(verdict)
    since = memory.reported if memory else None
    stands = since is not None and verdict.action == "proceed" and verdict.outcome in ("warn", "fail")
    # While a change stands, an evaluation that does not find it is no recovery.
    if verdict.needs_no_action and not stands and (verdict.outcome != "pass" or since is not None):
        return None
    value_name = _find_metric(verdict) or verdict.check
    value_addresses = next((value.notify for value in policy.watch.values if value.value == value_name), ())
    addresses = value_addresses or policy.watch.notify
    if not addresses:
        return None
    kind = verdict.evidence.get("compared_with", {}).get("asked", "") if verdict.check == "drift" else ""
    subject = f"{policy.name}: {value_name}" + (f" ({kind})" if kind else "")
    if verdict.needs_no_action and not stands:
        line = f"{value_name} recovered: {verdict.reason}"
        return AlertMessage(subject=subject, state="well", line=line, addresses=addresses)
    return AlertMessage(
        subject=subject,
        state="bad",
        line=f"{value_name} → {verdict.action}: {verdict.reason} ({verdict.subject})",
        addresses=addresses,
        picture=_draw_evidence(policy.name, verdict, books),
        since=since,
    )


def _draw_evidence(model: str, verdict: Verdict, books: Books) -> str:
    """Draw the values of a verdict's check; of retrainings in vain, those of the check that requested them."""
    if verdict.check == "retraining":
        checks = verdict.read(_RetrainingEvidence).checks
        found = books.verdicts.find(model=model, check=checks[0], newest=True, limit=1) if checks else []
        return _draw_evidence(model, found[0], books) if found and checks[0] != "retraining" else ""
    earlier = books.verdicts.find(model=model, check=verdict.check, newest=True, limit=_MAX_POINTS)
    same = [past for past in reversed(earlier) if _find_metric(past) == _find_metric(verdict)]
    return draw_picture(f"{model}: {_find_metric(verdict) or verdict.check}", same)


def _find_metric(verdict: Verdict) -> str:
    return verdict.read(PerformanceEvidence).metric if verdict.check == "performance" else ""


def _send_messages(
    title: str, messages: list[AlertMessage], page: str, quiet: str, books: Books, clock: Clock, environment: str
) -> list[str]:
    receivers: dict[str, list[str]] = {}
    sent = []
    for address in dict.fromkeys(address for message in messages for address in message.addresses):
        news = [
            message
            for message in messages
            if address in message.addresses and _is_news(message, address, quiet, books, clock, environment)
        ]
        if not news:
            continue
        status = "recovered" if all(message.state == "well" for message in news) else "needs attention"
        link = f"{os.environ['TIDEMILL_PAGES'].rstrip('/')}/{page}" if os.environ.get("TIDEMILL_PAGES") else ""
        body = "\n".join([*(message.line for message in news), *([link] if link else [])])
        if _send(
            address,
            f"{title}: {status}",
            body,
            list(dict.fromkeys(message.picture for message in news if message.picture)),
        ):
            sent.append(f"{_scheme(address)}: {', '.join(message.subject for message in news)}")
            for message in news:
                receivers.setdefault(message.subject, []).append(_hash_address(address))
    for message in messages:
        if message.subject in receivers:
            payload = AlertPayload(state=message.state, reason=message.line, to=receivers[message.subject])
            record_event(books, clock, "alert", message.subject, environment=environment, payload=to_builtins(payload))
    return sent


def _is_news(message: AlertMessage, address: str, quiet: str, books: Books, clock: Clock, environment: str) -> bool:
    """Return whether an address has not received this message, or not within `quiet`."""
    for event in books.events.find(
        kind="alert", subject=message.subject, environment=environment, newest=True, limit=_MAX_EVENTS
    ):
        earlier = event.read(AlertPayload)
        if _hash_address(address) in earlier.to:
            is_same = earlier.state == message.state
            if is_same and message.since is not None:
                return event.time < message.since
            return not is_same or (message.state == "bad" and clock.now() - event.time >= parse_duration(quiet))
    return message.state == "bad"


def _hash_address(address: str) -> str:
    """Return the form of an address in the ledger, without the passwords that it may contain."""
    return f"{_scheme(address)}:{hashlib.sha256(address.encode()).hexdigest()[:12]}"


def _scheme(address: str) -> str:
    return address.partition("://")[0]


def _fill(address: str) -> str:
    """Return an address with its secrets; an alert that cannot be sent is logged, and is no error."""
    try:
        return fill_secrets(address, "an address of [watch] notify")
    except ConfigurationError as missing:
        log.error("%s", missing)
        return address


def _send(address: str, title: str, body: str, pictures: Sequence[str]) -> bool:
    if address == "log":
        log.warning("%s: %s", title, body.replace("\n", "; "))
        return True
    try:
        from apprise import Apprise
    except ImportError:
        log.error("%s: %s; the alert was not sent: pip install 'tidemill[alerts]'", title, body.replace("\n", "; "))
        return False
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"picture-{number}.svg" for number, _ in enumerate(pictures)]
            for file, text in zip(files, pictures, strict=True):
                file.write_text(text, encoding="utf-8")
            sender, attachments = Apprise(), [str(file) for file in files] or None
            is_sent = sender.add(_fill(address)) and sender.notify(body, title, attach=attachments)
    except Exception:
        log.exception("the alert to %s could not be sent: %s", _scheme(address), title)
        return False
    if not is_sent:
        log.error("the alert to %s could not be sent: %s: %s", _scheme(address), title, body.replace("\n", "; "))
    return bool(is_sent)
