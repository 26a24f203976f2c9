"""Reports and pictures: Plotly figures are written as HTML pages, Matplotlib figures as PNG."""

import io
import json
from typing import Any, BinaryIO

from tidemill.core.artifact import Picture, Report


class ReportCodec:
    """HTML pages that load nothing from a server; the page of a Plotly figure contains its script."""

    kind = "html"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Report) or _is_figure(value, "plotly")

    def write(self, value: Any, sink: BinaryIO) -> None:
        page = value.html if isinstance(value, Report) else _create_page(value)
        sink.write(page.encode())

    def read(self, source: BinaryIO, annotation: Any) -> Report:  # noqa: ARG002 - required by the protocol
        return Report(html=source.read().decode())

    def summary(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Report):
            return {"characters": len(value.html)}
        return {"title": str(value.layout.title.text or ""), "traces": len(value.data)}


class PictureCodec:
    """Pictures as PNG."""

    kind = "png"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Picture) or _is_figure(value, "matplotlib")

    def write(self, value: Any, sink: BinaryIO) -> None:
        if isinstance(value, Picture):
            sink.write(value.png)
            return
        image = io.BytesIO()
        # The version of Matplotlib must not change the bytes.
        value.savefig(image, format="png", metadata={"Software": None})
        sink.write(image.getbuffer())

    def read(self, source: BinaryIO, annotation: Any) -> Picture:  # noqa: ARG002 - required by the protocol
        return Picture(png=source.read())

    def summary(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Picture):
            return {"bytes": len(value.png)}
        return {"inches": [float(side) for side in value.get_size_inches()]}


def _create_page(figure: Any) -> str:
    """Return the page of a figure with the script of its Plotly version; equal figures result in equal bytes."""
    from plotly.io import to_html

    parts = json.loads(json.dumps(json.loads(figure.to_json()), sort_keys=True))
    return str(to_html(parts, validate=False, include_plotlyjs=True, div_id="figure"))


def _is_figure(value: Any, library: str) -> bool:
    return type(value).__name__ == "Figure" and type(value).__module__.partition(".")[0] == library
