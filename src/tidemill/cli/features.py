"""`features`: the feature views of a project, and their values for an entity."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Environment, Json, session_here
from tidemill.errors import InputError, NotFound

features = typer.Typer(no_args_is_help=True, help="Feature views.")


@features.command("list")
def list_features(json: Json = False) -> None:
    """The views of features.py."""
    session = session_here()
    using = {view: model.name for model in session.project.policy.models.values() for view in model.inputs.views}
    columns = {
        "view": lambda v: v.name,
        "entity": lambda v: ", ".join(v.entity.keys),
        "source": lambda v: v.source,
        "features": lambda v: ", ".join(v.features),
        "used by": lambda v: using.get(v.name, ""),
        "owner": lambda v: v.owner,
        "description": lambda v: v.description,
    }
    output.records(list(session.project.code.views.values()), columns, json=json, nothing="features.py defines no view")


@features.command("get")
def get(
    view: Annotated[str, typer.Argument(help="A view of features.py.")],
    keys: Annotated[list[str] | None, typer.Argument(help="column=value for each key of the entity.")] = None,
    env: Environment = "production",
    json: Json = False,
) -> None:
    """The values of an entity in the online store."""
    import polars as pl

    from tidemill.core.resources import Online
    from tidemill.featurestore.lookup import entity_of

    session = session_here(env)
    definition = session.project.code.view(view)
    given = dict(key.partition("=")[::2] for key in keys or [])
    absent = [key for key in definition.entity.keys if key not in given]
    if absent:
        raise InputError(f"view {view!r} needs the key {absent[0]!r}", f"give it: {absent[0]}=VALUE")
    keys_as_rows = pl.DataFrame({key: [given[key]] for key in definition.entity.keys})
    (entity,) = entity_of(keys_as_rows, definition.entity.keys)
    found = session.resource(Online).read(view, [entity])[0]
    if found is None:
        raise NotFound(f"the online store knows no {entity!r} of {view!r}", "fill it: `tidemill run materialization`")
    if json:
        output.as_json({"as_of": found[0], **found[1]})
        return
    output.table(("feature", "value"), ([name, output.cell(value)] for name, value in found[1].items()))
