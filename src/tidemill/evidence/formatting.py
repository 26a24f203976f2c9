"""Formats artifacts, times and numbers as text of one line."""

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


def describe_role(artifact: Artifact) -> str:
    """Return the role of an artifact: table, statistics, vocabularies, anomalies, model package, …"""
    if artifact.transient:
        return "transient"
    kind = str(artifact.summary.get("type", ""))
    if artifact.summary.get("judges") and kind != "Verdict":
        return "anomalies"
    return _ROLES.get(kind) or _KINDS.get(artifact.kind) or artifact.kind


def describe_content(artifact: Artifact) -> str:
    """Return a short description of the content of an artifact.

    >>> describe_content(Artifact("d" * 64, "frame", 9, {"rows": 51801, "columns": {"a": "Int64", "b": "String"}}))
    '51,801 rows, 2 columns'
    """
    if artifact.transient:
        return "computed again when needed"
    summary = artifact.summary
    parts = [f"{summary['rows']:,} rows"] if isinstance(summary.get("rows"), int) else []
    if summary.get("columns"):
        parts.append(f"{summary.get('width') or len(summary['columns']):,} columns")
    if summary.get("shape"):
        parts.append(f"{' × '.join(map(str, summary['shape']))} of {summary.get('dtype', '')}")
    if summary.get("flavor"):
        parts.append(str(summary["flavor"]))
    for name in ("files", "items", "characters", "traces"):
        count = summary.get(name)
        count = len(count) if isinstance(count, list | tuple) else count
        if isinstance(count, int):
            parts.append(f"{count:,} {name if count != 1 else name.removesuffix('s')}")
    return ", ".join(parts) or str(summary.get("type", ""))


def format_size(artifact: Artifact) -> str:
    """Return the size of an artifact; "" for a transient one."""
    return "" if artifact.transient else format_bytes(artifact.size)


def format_bytes(count: int) -> str:
    """Format a number of bytes.

    >>> format_bytes(999), format_bytes(51_801), format_bytes(2_500_000_000_000)
    ('999 B', '51.8 kB', '2.5 TB')
    """
    if count < 1000:
        return f"{count} B"
    power = min(4, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def find_end(step: StepRun) -> datetime | None:
    """Return when a step ended, or None while it runs."""
    if step.ended is not None or step.seconds is None:
        return step.ended
    return step.started + timedelta(seconds=step.seconds)


def format_number(value: float | None) -> str:
    """Format a number: whole ones with thousands separators, others with four decimals or three digits.

    >>> format_number(57239), format_number(0.5504020), format_number(0.0000123)
    ('57,239', '0.5504', '1.23e-05')
    """
    if value is None:
        return ""
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def format_duration(value: float | None) -> str:
    """Format a duration in seconds.

    >>> format_duration(0.0412), format_duration(13.57), format_duration(312), format_duration(179.9)
    ('41 ms', '13.6 s', '5 min 12 s', '3 min 0 s')
    """
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    minutes, rest = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 120 else f"{minutes:,} min {rest} s"


def format_time(value: datetime | None) -> str:
    """Format a time in UTC, to the second."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if value else ""


def format_clock(value: datetime | None) -> str:
    """Format the time of day in UTC, to the millisecond."""
    return f"{value.astimezone(UTC):%H:%M:%S.%f}"[:-3] if value else ""
