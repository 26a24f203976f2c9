// Draws each figure in the colours of the page, and again when the colours change.
"use strict";
function drawFigures() {
  const style = getComputedStyle(document.body);
  const line = style.getPropertyValue("--line").trim();
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: style.getPropertyValue("--soft").trim(), automargin: true };
  for (const container of document.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(document.getElementById(container.dataset.figure).textContent);
    const layout = Object.assign({}, figure.layout);
    layout.font = Object.assign({}, layout.font, { color: style.color });
    layout.hoverlabel = Object.assign({}, layout.hoverlabel, {
      bgcolor: style.getPropertyValue("--card").trim(), bordercolor: line, font: { color: style.color },
    });
    for (const name of ["xaxis", "yaxis", "yaxis2"]) {
      if (layout[name]) layout[name] = Object.assign({}, axis, layout[name]);
    }
    Plotly.react(container, figure.data, layout, { responsive: true, displayModeBar: false });
  }
}
drawFigures();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawFigures);
