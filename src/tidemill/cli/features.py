"""`features`: lists feature views, and reads the features of an entity."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_session
from tidemill.errors import InputError, NotFound

features = typer.Typer(no_args_is_help=True, help="Feature views.")


@features.command("list")
def list_features(json: Json = False) -> None:
    """List the feature views in features.py."""
    session = load_session()
    for model in session.project.policy.models.values():
        session.project.features(model)  # refuses two features with one name
    users = {view: model.name for model in session.project.policy.models.values() for view in model.inputs.views}
    columns = {
        "view": lambda v: v.name,
        "entity": lambda v: ", ".join(v.entity.keys),
        "source": lambda v: v.source,
        "features": lambda v: ", ".join(v.features),
        "used by": lambda v: users.get(v.name, ""),
        "owner": lambda v: v.owner,
        "description": lambda v: v.description,
    }
    output.print_records(
        list(session.project.code.views.values()), columns, json=json, nothing="features.py defines no view"
    )


@features.command("get")
def get(
    view: Annotated[str, typer.Argument(help="A feature view in features.py.")],
    keys: Annotated[list[str] | None, typer.Argument(help="COLUMN=VALUE for each key of the entity.")] = None,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Show the features of an entity in the online store."""
    import polars as pl

    from tidemill.core.resources import Online
    from tidemill.featurestore.lookup import HAPPENED, name_entities

    session = load_session(env)
    definition = session.project.code.view(view)
    given = dict(key.partition("=")[::2] for key in keys or [])
    missing = [key for key in definition.entity.keys if key not in given]
    if missing:
        raise InputError(f"view {view!r} needs the key {missing[0]!r}", f"add {missing[0]}=VALUE")
    keys_as_rows = pl.DataFrame({key: [given[key]] for key in definition.entity.keys})
    (entity,) = name_entities(keys_as_rows, definition.entity.keys)
    stored = session.resource(Online).read(view, [entity])[0]
    if stored is None:
        raise NotFound(
            f"the online store has no entity {entity!r} of view {view!r}", "run `tidemill run materialization`"
        )
    values = {name: value for name, value in stored[1].items() if name != HAPPENED}
    if json:
        output.print_json({"as_of": stored[0], **values})
        return
    output.print_table(("feature", "value"), ([name, output.format_cell(value)] for name, value in values.items()))
