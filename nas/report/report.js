"use strict";

// Figures refer to colours by name; replace the names with the colours of the page's theme.
function themed(value, palette, key) {
  if (Array.isArray(value)) return value.map(item => themed(item, palette, key));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, themed(item, palette, name)]));
  return key === "color" && palette[value] ? palette[value] : value;
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  const names = ["text", "soft", "line", "accent", "muted", "gold", "good", "bad", "card"];
  const palette = Object.fromEntries(names.map(name => [name, style.getPropertyValue("--" + name).trim()]));
  const coarse = matchMedia("(pointer: coarse)").matches;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  for (const [id, figure] of Object.entries(figures)) {
    const place = document.getElementById(id);
    const axis = { gridcolor: palette.line, zerolinecolor: palette.line, linecolor: palette.line, automargin: true, fixedrange: coarse };
    const { xaxis, yaxis, ...rest } = themed(figure.layout, palette);
    const titled = given => ({ ...axis, ...given, title: { text: (given && given.title) || "", font: { size: 12 } } });
    const layout = {
      height: 360, margin: { l: 16, r: 12, t: 12, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: palette.text, size: 12 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      hoverlabel: { align: "left", bgcolor: palette.card, bordercolor: palette.muted, font: { color: palette.text } },
      dragmode: coarse ? false : "zoom", xaxis: titled(xaxis), yaxis: titled(yaxis), ...rest,
    };
    Plotly.react(place, themed(figure.data, palette), layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
  document.documentElement.dataset.charts = Object.keys(figures).length;
}

function value(row, column) {
  const cell = row.cells[column];
  return "v" in cell.dataset ? (cell.dataset.v === "" ? NaN : Number(cell.dataset.v)) : cell.textContent.trim();
}

// Cells without a value stay at the end in both sort directions.
function compare(a, b, sign) {
  if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true });
  if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
  return sign * (a - b);
}

function sort(head) {
  const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
  const body = head.closest("table").tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(value(a, head.cellIndex), value(b, head.cellIndex), sign));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  body.append(...rows);
}

for (const head of document.querySelectorAll(".sortable thead th")) {
  head.tabIndex = 0;
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(head); });
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
