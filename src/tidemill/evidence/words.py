"""How artifacts, steps, times and numbers are said in one line."""

from datetime import UTC, datetime, timedelta

from tidemill.core.artifact import Artifact
from tidemill.core.run import StepRun

_ROLES = {
    "Snapshot": "rows seen",
    "Profile": "statistics",
    "Encoding": "vocabularies",
    "FeatureSet": "inputs",
    "Metrics": "metrics",
    "Verdict": "verdict",
}
_KINDS = {"frame": "table", "model": "model package", "html": "report", "png": "figure"}


def role_of(artifact: Artifact) -> str:
    """What an artifact is to people: a table, statistics, vocabularies, anomalies, a model package, …"""
    if artifact.transient:
        return "transient"
    kind = str(artifact.summary.get("type", ""))
    if artifact.summary.get("judges") and kind != "Verdict":
        return "anomalies"
    return _ROLES.get(kind) or _KINDS.get(artifact.kind) or artifact.kind


def holds(artifact: Artifact) -> str:
    """What is inside an artifact, in a few words.

    >>> holds(Artifact("d" * 64, "frame", 9, {"rows": 51801, "columns": {"a": "Int64", "b": "String"}}))
    '51,801 rows, 2 columns'
    """
    if artifact.transient:
        return "made again when needed"
    known = artifact.summary
    said = [f"{known['rows']:,} rows"] if isinstance(known.get("rows"), int) else []
    if known.get("columns"):
        said.append(f"{known.get('width') or len(known['columns']):,} columns")
    if known.get("shape"):
        said.append(f"{' × '.join(map(str, known['shape']))} of {known.get('dtype', '')}")
    if known.get("flavor"):
        said.append(str(known["flavor"]))
    for name in ("files", "items", "characters", "traces"):
        count = known.get(name)
        count = len(count) if isinstance(count, list | tuple) else count
        if isinstance(count, int):
            said.append(f"{count:,} {name if count != 1 else name.removesuffix('s')}")
    return ", ".join(said) or str(known.get("type", ""))


def size(artifact: Artifact) -> str:
    """How large an artifact is; nothing for one that keeps no bytes."""
    return "" if artifact.transient else in_bytes(artifact.size)


def in_bytes(count: int) -> str:
    """A number of bytes.

    >>> in_bytes(999), in_bytes(51_801), in_bytes(2_500_000_000_000)
    ('999 B', '51.8 kB', '2.5 TB')
    """
    if count < 1000:
        return f"{count} B"
    power = min(4, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def ended(step: StepRun) -> datetime | None:
    """When a step was over."""
    if step.ended is not None or step.seconds is None:
        return step.ended
    return step.started + timedelta(seconds=step.seconds)


def number(value: float | None) -> str:
    """A whole number with its thousands apart, another to four places, or to three digits where it is tiny or huge.

    >>> number(57239), number(0.5504020), number(0.0000123)
    ('57,239', '0.5504', '1.23e-05')
    """
    if value is None:
        return ""
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """A length of time.

    >>> seconds(0.0412), seconds(13.57), seconds(312), seconds(179.9)
    ('41 ms', '13.6 s', '5 min 12 s', '3 min 0 s')
    """
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    minutes, left = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 120 else f"{minutes:,} min {left} s"


def moment(value: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if value else ""


def clock(value: datetime | None) -> str:
    """The time of day of a moment in UTC, to the millisecond."""
    return f"{value.astimezone(UTC):%H:%M:%S.%f}"[:-3] if value else ""
