"use strict";

// Figures refer to colours by name; replace the names with the colours of the page's theme.
function themed(value, palette, key) {
  if (Array.isArray(value)) return value.map(item => themed(item, palette, key));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, themed(item, palette, name)]));
  return key === "color" && palette[value] ? palette[value] : value;
}

let figures = JSON.parse(document.getElementById("figures").textContent);

function draw() {
  const style = getComputedStyle(document.documentElement);
  const names = ["text", "soft", "line", "accent", "muted", "gold", "good", "bad", "card"];
  const palette = Object.fromEntries(names.map(name => [name, style.getPropertyValue("--" + name).trim()]));
  const coarse = matchMedia("(pointer: coarse)").matches;
  for (const [id, figure] of Object.entries(figures)) {
    const place = document.getElementById(id);
    if (!place) continue;
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
    if (!place.dataset.clicks) {
      place.dataset.clicks = "yes";
      place.on("plotly_click", event => { if (event.points[0].customdata) show(event.points[0].customdata); });
    }
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

// A table's header cells sort it, by mouse and by keyboard.
function prepare(part) {
  for (const head of part.querySelectorAll(".sortable thead th")) {
    head.tabIndex = 0;
    head.setAttribute("role", "columnheader");
  }
}

document.addEventListener("click", event => {
  const trial = event.target.closest("[data-trial]"), head = event.target.closest(".sortable thead th");
  if (trial) show(trial.dataset.trial);
  else if (head) sort(head);
  else if (event.target === dialog) dialog.close();
});
document.addEventListener("keydown", event => {
  if (event.key !== "Enter" && event.key !== " ") return;
  const head = event.target.closest(".sortable thead th"), pill = event.target.closest("g[data-trial]");
  if (!head && !pill) return;
  event.preventDefault();
  if (head) sort(head);
  else show(pill.dataset.trial);
});

// The details of a trial: from the server of a live page, else from the page itself.
const dialog = document.getElementById("trial"), live = "live" in document.documentElement.dataset;
let packed = null;

async function unpacked() {
  const text = document.getElementById("packed");
  if (!text) return {};
  const bytes = Uint8Array.from(atob(text.textContent), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function show(key) {
  let html = null;
  try {
    if (live) {
      const answer = await fetch("trial/" + key);
      html = answer.ok ? await answer.text() : null;
    } else {
      packed = packed || await unpacked();
      html = packed[key];
    }
  } catch (error) { html = null; }
  const body = document.getElementById("trial-body");
  if (html) body.innerHTML = html;
  else body.textContent = "Trial " + key + " can't be shown: " + (live ? "its server has ended." : "this page does not hold it.");
  body.scrollTop = 0;
  document.documentElement.dataset.shown = key;
  if (!dialog.open) dialog.showModal();
}

// A live page: ask for news, and replace the parts that have changed. Whoever reads on is not disturbed.
const seen = new Map();

function kept(part) {
  return {
    open: [...part.querySelectorAll("details")].map(each => each.open),
    scrolled: [...part.querySelectorAll(".scroll")].map(each => [each.scrollLeft, each.scrollTop]),
    sorted: [...part.querySelectorAll(".sortable")].map(table => {
      const head = table.querySelector("[aria-sort]");
      return head && [head.cellIndex, head.getAttribute("aria-sort")];
    }),
  };
}

function restore(part, before) {
  [...part.querySelectorAll("details")].forEach((each, at) => { each.open = Boolean(before.open[at]); });
  [...part.querySelectorAll(".sortable")].forEach((table, at) => {
    const order = before.sorted[at], head = order && table.tHead.rows[0].cells[order[0]];
    if (!head) return;
    if (order[1] === "ascending") head.setAttribute("aria-sort", "descending");
    sort(head);
  });
  [...part.querySelectorAll(".scroll")].forEach((each, at) => {
    if (before.scrolled[at]) [each.scrollLeft, each.scrollTop] = before.scrolled[at];
  });
}

function update(news) {
  const next = new DOMParser().parseFromString("<main>" + news.main + "</main>", "text/html").querySelector("main");
  const main = document.getElementById("main");
  let last = null;
  for (const part of [...next.children]) {
    const old = document.getElementById(part.id), text = part.outerHTML;
    let now = old;
    if (!old || seen.get(part.id) !== text) {
      const before = old && kept(old);
      now = document.importNode(part, true);
      if (old) old.replaceWith(now);
      else if (last) last.after(now);
      else main.prepend(now);
      if (before) restore(now, before);
      prepare(now);
    }
    seen.set(part.id, text);
    last = now;
  }
  for (const part of [...main.children]) if (!next.querySelector("#" + CSS.escape(part.id))) part.remove();
  figures = news.figures;
  draw();
  document.title = news.title;
}

async function poll() {
  const root = document.documentElement, said = document.getElementById("said");
  let wait = Number(root.dataset.wait);
  try {
    if (!document.hidden) {
      const answer = await fetch("news?since=" + root.dataset.live);
      if (!answer.ok) throw new Error(answer.status);
      const news = await answer.json();
      wait = news.wait;
      if (news.version !== root.dataset.live) {
        update(news);
        root.dataset.live = news.version;
        root.dataset.updates = Number(root.dataset.updates || 0) + 1;
        if (said.textContent !== news.said) said.textContent = news.said;
      }
      if (news.over) return;
    }
  } catch (error) {
    said.textContent = "The page's server has ended; what you see is as it was then. Start it again with nas watch.";
    root.dataset.lost = "yes";
    wait = 10;
  }
  setTimeout(poll, wait * 1000);
}

prepare(document);
draw();
if (live) setTimeout(poll, 1000 * Number(document.documentElement.dataset.wait));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
