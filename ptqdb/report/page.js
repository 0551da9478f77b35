"use strict";
// Draws the charts of the page. All data is in the page; nothing is fetched.
const page = JSON.parse(document.getElementById("data").textContent);
// Pixels: narrow screen, panel widths, space for a panel's axes, space for the legend.
const NARROW = 700, LEAST_PANEL = 230, MOST_PANEL = 460, BESIDE = 66, LEGEND = 130;

// Replaces references by the shared parts, and columns by rows.
function whole(value) {
  if (Array.isArray(value)) return value.map(whole);
  if (value === null || typeof value !== "object") return value;
  if ("$" in value) return whole(page.parts[value.$]);
  if ("$rows" in value) {
    const names = Object.keys(value.$rows);
    const columns = names.map((name) => whole(value.$rows[name]));
    return columns[0].map((_, row) =>
      Object.fromEntries(names.map((name, place) => [name, columns[place][row]])));
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, whole(item)]));
}

const dark = matchMedia("(prefers-color-scheme: dark)");

function each(spec, visit) {
  visit(spec);
  for (const key of ["layer", "concat", "hconcat", "vconcat"]) (spec[key] || []).forEach((part) => each(part, visit));
}

// Curves have enough points for both scales of x.
function linear(spec) {
  each(spec, (part) => {
    const x = part.encoding && part.encoding.x;
    if (x && x.scale && x.scale.type === "log") {
      x.scale.type = "linear";
      x.scale.zero = false;
      if (x.axis) { delete x.axis.values; x.axis.tickCount = 6; }
    }
  });
}

function lines(text) { return text === undefined ? [] : [].concat(text); }

function heading(figure, spec, isLinear) {
  const title = spec.title || {};
  delete spec.title;
  const said = lines(title.subtitle).filter((line) => !(isLinear && line.includes("logarithmic axis")));
  const caption = figure.querySelector("figcaption");
  caption.replaceChildren();
  for (const [tag, text] of [["b", lines(title.text).join(" ")], ...said.map((line) => ["span", line])]) {
    const line = document.createElement(tag);
    line.textContent = text;
    caption.append(line);
  }
}

// Fits the chart to the available width: fewer panels per row, legends at the bottom.
function fitted(spec, width, isWide) {
  const isNarrow = width < NARROW;
  if (spec.concat && !isWide) {
    const room = width - (isNarrow ? 0 : LEGEND);
    const columns = Math.max(1, Math.min(spec.columns || 1, Math.floor(room / (LEAST_PANEL + BESIDE))));
    const panel = Math.min(MOST_PANEL, room / columns - BESIDE);
    spec.columns = columns;
    let named;
    spec.concat.forEach((part, place) => {
      each(part, (one) => {
        // Layers have the width of their chart.
        if (one.width) one.width = panel;
        const { encoding } = one;
        if (!encoding || !encoding.y || !("title" in encoding.y)) return;
        named = named || encoding.y.title;
        encoding.y.title = place % columns ? null : named;
      });
    });
  } else if (spec.layer && !isWide) {
    spec.width = Math.min(width, 900);
    spec.height = isNarrow ? 320 : 430;
    spec.autosize = { type: "fit-x", contains: "padding" };
    if (isNarrow) each(spec, ({ encoding }) => {
      // The tick labels show the unit.
      if (encoding && encoding.y && encoding.y.title) encoding.y.title = encoding.y.title.split(" (")[0];
    });
  }
  return isNarrow && !isWide;
}

function config(isNarrow) {
  const settings = structuredClone(page.config);
  settings.font = getComputedStyle(document.body).fontFamily;
  settings.background = "transparent";
  // Interpolated colours are computed, so the style sheet cannot define them.
  Object.assign(settings.range, page.cells[dark.matches ? "dark" : "light"]);
  if (isNarrow) {
    const below = { bottom: { direction: "vertical", anchor: "start", margin: 6 } };
    settings.legend = { ...settings.legend, orient: "bottom", columns: 3, labelFontSize: 11, layout: below };
    settings.axis = { ...settings.axis, titleFontSize: 11, labelFontSize: 10 };
  }
  return settings;
}

async function draw(figure) {
  const place = figure.querySelector(".chart");
  const key = [...figure.querySelectorAll("select")].map((select) => select.value).join("|");
  const picture = page.figures[figure.id][key];
  if (picture === undefined) {
    figure.querySelector("figcaption").replaceChildren();
    place.textContent = "Nothing to show: this network has no points in this view.";
    return;
  }
  const isWide = figure.classList.contains("wide");
  const isLinear = document.getElementById("x").value === "linear";
  const spec = whole(picture);
  if (isLinear) linear(spec);
  heading(figure, spec, isLinear);
  const isNarrow = fitted(spec, place.clientWidth, isWide);
  try {
    if (figure.view) figure.view.finalize();
    const embedded = await vegaEmbed(place, spec, { mode: "vega-lite", renderer: "svg", actions: false, config: config(isNarrow) });
    figure.view = embedded.view;
  } catch (error) {
    place.innerHTML = '<p class="failed"></p>';
    place.firstChild.textContent = `This chart could not be drawn: ${error.message}`;
    console.error(error);
  }
}

// Figures in a collapsed section are drawn when it is opened.
function isShown(figure) { const folded = figure.closest("details"); return !folded || folded.open; }

const figures = [...document.querySelectorAll("figure")];
let turn = 0;

// Draws the figures one by one, so the page can be scrolled meanwhile.
async function drawAll() {
  const mine = ++turn;
  document.documentElement.dataset.drawn = "no";
  for (const figure of figures.filter(isShown)) {
    if (mine !== turn) return;
    await draw(figure);
    await new Promise((resume) => setTimeout(resume));
  }
  document.documentElement.dataset.drawn = "yes";
}

for (const figure of figures) {
  figure.addEventListener("change", () => draw(figure));
}
document.getElementById("x").addEventListener("change", drawAll);
dark.addEventListener("change", drawAll);
for (const folded of document.querySelectorAll("details")) folded.addEventListener("toggle", drawAll);
let width = document.body.clientWidth;
let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    drawAll();
  }, 250);
});
drawAll();
