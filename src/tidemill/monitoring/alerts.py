"""Alerts: tells those whom the policy names of what a watch found; `log`, or any address that Apprise knows."""

from tidemill.core.check import Verdict
from tidemill.core.policy import ModelPolicy
from tidemill.errors import MissingExtra
from tidemill.telemetry import logger

log = logger("alerts")
_QUIET = ("proceed", "hold", "ignore")


def alert(policy: ModelPolicy, verdicts: list[Verdict]) -> list[str]:
    """Tell of every verdict that calls for something; who was told.

    A verdict goes to the `notify` of its own value, or else of the watch. An address that fails is logged, and
    keeps nobody else from being told.

    Raises
    ------
    MissingExtra
        if an address needs Apprise, which is not installed.
    """
    told = []
    for verdict in verdicts:
        if verdict.action in _QUIET:
            continue
        title = f"{policy.name}: {verdict.check} → {verdict.action}"
        body = f"{verdict.subject}: {verdict.reason}"
        for address in _addresses(policy, verdict):
            if address == "log":
                log.warning("%s: %s", title, body)
            elif not _send(address, title, body):
                log.error("%s could not be told: %s: %s", address.partition("://")[0], title, body)
                continue
            told.append(f"{address.partition('://')[0]}: {title}")
    return told


def _addresses(policy: ModelPolicy, verdict: Verdict) -> tuple[str, ...]:
    names = {"performance": verdict.evidence.get("metric"), "traffic": "traffic"}
    watched = names.get(verdict.check, verdict.check)
    own = next((value.notify for value in policy.watch.values if value.value == watched), ())
    return own or policy.watch.notify


def _send(address: str, title: str, body: str) -> bool:
    try:
        from apprise import Apprise
    except ImportError:
        raise MissingExtra("apprise", "alerts") from None
    sender = Apprise()
    return bool(sender.add(address) and sender.notify(title=title, body=body))
