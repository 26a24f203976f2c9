"""`show`: prints or draws the graph of a pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Json, load_session


def show(
    name: Annotated[str, typer.Argument(help="A pipeline in pipeline.py.")],
    svg: Annotated[Path | None, typer.Option(help="The SVG file to write a picture to.")] = None,
    json: Json = False,
) -> None:
    """Show the steps of a pipeline, and the steps that each one depends on."""
    from tidemill.flow.drawing import as_svg, as_text
    from tidemill.flow.plan import plan

    session = load_session()
    graph = plan(session.pipeline(name), {}, session.project, session.clock)
    if json:
        output.print_json({node.name: list(node.needs) for node in graph.nodes.values()})
    elif svg is not None:
        output.write_file(svg, as_svg(graph))
    else:
        output.out.print(as_text(graph))
