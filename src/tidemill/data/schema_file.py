"""Reads and writes schema files: TOML with a table for each column."""

import tomllib
from pathlib import Path

import msgspec

from tidemill.clock import parse_duration
from tidemill.core.columns import is_internal
from tidemill.core.schema import Column, Schema
from tidemill.errors import ConfigurationError


def read_schema(file: Path) -> Schema:
    """Return the schema in a file.

    Raises
    ------
    ConfigurationError
        if the file is missing, not TOML, or has an unknown key or a value of the wrong type.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as unread:
        raise ConfigurationError(f"the schema {file} cannot be read: {unread.strerror}", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise ConfigurationError(f"{file.name}: {wrong}", "correct that line: it is not TOML") from None
    named = tables.pop("columns", {})
    if not isinstance(named, dict) or not all(isinstance(column, dict) for column in named.values()):
        raise ConfigurationError(f"{file.name}: `columns` must contain a table for each column", "write [columns.NAME]")
    columns = [{"name": name, **column} for name, column in named.items()]
    for table, noun in ((tables, Schema), *((column, Column) for column in columns)):
        if unknown := [key for key in table if key not in noun.__struct_fields__]:
            raise ConfigurationError(
                f"{file.name}: unknown key `{unknown[0]}`"
                + (f" of column {table['name']!r}" if noun is Column else ""),
                f"remove it, or check its spelling; there are: {', '.join(noun.__struct_fields__)}",
            )
    try:
        schema = msgspec.convert({**tables, "columns": columns}, Schema)
        if schema.ahead:
            parse_duration(schema.ahead)
    except msgspec.ValidationError as wrong:
        raise ConfigurationError(f"{file.name}: {wrong}", "see the reference of schemas for its values") from None
    if fault := _find_contradiction(schema):
        problem, cure = fault
        raise ConfigurationError(f"{file.name}: {problem}", cure)
    return schema


def _find_contradiction(schema: Schema) -> tuple[str, str] | None:
    """Return the first definition that no table can satisfy or that checks nothing, with its cure."""
    for column in schema.columns:
        if column.low is not None and column.high is not None and not column.low <= column.high:
            return (
                f"column {column.name!r} has low = {column.low:g} and high = {column.high:g}",
                "set low to the smaller number",
            )
        if not 0 <= column.missing <= 1:
            return f"column {column.name!r} has missing = {column.missing:g}", "set a share from 0 to 1"
        if column.domain == ():
            return f"column {column.name!r} has an empty domain", "list the allowed values, or remove `domain`"
    unknown = [name for name in schema.key if schema.column(name) is None and not is_internal(name)]
    if unknown and schema.extra_columns == "stop":
        return (
            f"the key contains {unknown[0]!r}, which is not a column",
            f"use one of: {', '.join(column.name for column in schema.columns)}",
        )
    return None


def write_schema(schema: Schema, file: Path) -> None:
    """Write a schema to a file that `read_schema` reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(format_schema(schema), encoding="utf-8")


def format_schema(schema: Schema) -> str:
    """Return a schema as the text of its file."""
    lines = [
        "# Batches of this source are accepted if they fit this schema. A value outside low … high or outside a domain",
        "# stops the pipeline; `missing` is the largest accepted share of nulls.",
        f"source = {_text(schema.source)}",
        f"version = {schema.version}",
        f"key = [{', '.join(map(_text, schema.key))}]",
        f"extra_columns = {_text(schema.extra_columns)}",
        f"minimum_rows = {schema.minimum_rows}",
        f"ahead = {_text(schema.ahead)}",
        "",
    ]
    for column in schema.columns:
        fields = msgspec.to_builtins(column)
        lines.append(f"[columns.{_text(fields.pop('name'))}]")
        lines += [f"{name} = {_value(value)}" for name, value in fields.items()]
        lines.append("")
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(member) for member in value)}]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007F")  # the one character that only TOML forbids
