"""`show`: the graph of a pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Json, session_here


def show(
    name: Annotated[str, typer.Argument(help="A pipeline of pipeline.py.")],
    svg: Annotated[Path | None, typer.Option(help="Write a picture to this file.")] = None,
    json: Json = False,
) -> None:
    """A pipeline's graph: its steps, and what each needs."""
    from tidemill.flow.drawing import as_svg, as_text
    from tidemill.flow.plan import plan

    session = session_here()
    graph = plan(session.project.code.pipeline(name), {}, session.project, session.clock)
    if json:
        output.as_json({node.name: list(node.needs) for node in graph.nodes.values()})
    elif svg is not None:
        output.write(svg, as_svg(graph))
    else:
        output.out.print(as_text(graph))
