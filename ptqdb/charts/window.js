"use strict";
// Draws one chart as large as the window, and again when the window is resized. All data is in
// the page; nothing is fetched.
const given = JSON.parse(document.getElementById("spec").textContent);
const place = document.getElementById("vis");
// Pixels: smallest panel width, smallest chart height, margins of both sides, width of a letter in
// the subtitle; a panel's axes, a legend; a narrow window, with legends at the bottom.
const LEAST_PANEL = 270, LEAST_HEIGHT = 240, MARGIN = 24, LETTER = 6.6;
const AXES = 60, LEGEND = 110, NARROW = 640;
// Limits on the scaling of the height of panels side by side.
const LOWER = 0.8, HIGHER = 1.5;
// "Open in editor" would send the data to a web page. "View source" writes them into a page as
// HTML, where a name could run a script.
const options = {
  mode: "vega-lite",
  actions: { export: true, source: false, compiled: false, editor: false },
};

function panels(spec) { return spec.concat || spec.hconcat || spec.vconcat; }

// Visits every part of the chart that has its own size.
function each(spec, visit) {
  if (panels(spec)) panels(spec).forEach((part) => each(part, visit));
  else visit(spec);
}

// The total width of the panels in the widest row, and their number.
function row(spec) {
  const parts = (panels(spec) || []).map(row);
  if (!parts.length) return { width: spec.width || 0, count: 1 };
  const columns = spec.hconcat ? parts.length : spec.vconcat ? 1 : spec.columns || parts.length;
  const rows = [];
  parts.forEach((part, at) => {
    if (at % columns === 0) rows.push({ width: 0, count: 0 });
    rows.at(-1).width += part.width;
    rows.at(-1).count += part.count;
  });
  return rows.reduce((most, one) => (one.width > most.width ? one : most));
}

// Whether y shows names, not numbers: each name needs a fixed height.
function hasNames(spec) {
  return (spec.layer || [spec]).some(({ encoding }) => encoding && encoding.y && encoding.y.type === "nominal");
}

function wrapped(text, width) {
  const most = Math.max(30, Math.floor(width / LETTER));
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length >= most) lines.push("");
    lines.push((lines.pop() + " " + word).trim());
  }
  return lines;
}

// The space that axes and legends take beside the panels, without titles.
async function beside(spec) {
  const bare = structuredClone(spec);
  delete bare.title;
  const { view } = await vegaEmbed(place, bare, options);
  const box = { width: place.querySelector("svg, canvas").clientWidth, height: place.querySelector("svg, canvas").clientHeight };
  view.finalize();
  return { width: box.width - row(spec).width, height: box.height - (spec.height || 0) };
}

// Puts as many panels in a row as fit; the first in each row has the axis title.
function arranged(spec, room) {
  const most = Math.max(1, Math.floor(room / (LEAST_PANEL + AXES)));
  spec.columns = Math.min(spec.columns || spec.concat.length, most);
  let named;
  spec.concat.forEach((part, at) => each(part, (one) => (one.layer || [one]).forEach(({ encoding }) => {
    if (!encoding || !encoding.y || !("title" in encoding.y)) return;
    named = named || encoding.y.title;
    encoding.y.title = at % spec.columns ? null : named;
  })));
}

let view, turn = 0;
const taken = {};

async function draw() {
  const mine = ++turn;
  document.documentElement.dataset.drawn = "no";
  const room = document.documentElement.clientWidth - MARGIN;
  const spec = structuredClone(given);
  const isNarrow = room < NARROW, isSingle = !panels(spec);
  if (isNarrow) {
    const layout = { bottom: { direction: "vertical", anchor: "start", margin: 6 } };
    spec.config.legend = { ...spec.config.legend, orient: "bottom", columns: 3, layout };
  }
  if (spec.concat) arranged(spec, room - (isNarrow ? 0 : LEGEND));
  const key = `${isNarrow} ${spec.columns}`;
  taken[key] = taken[key] || await beside(spec);
  if (mine !== turn) return;
  const natural = row(spec);
  const factor = Math.max((room - taken[key].width) / natural.width, 0.25);
  each(spec, (part) => {
    part.width *= factor;
    if (isSingle && !hasNames(part)) return;
    part.height *= Math.min(HIGHER, Math.max(hasNames(part) ? 1 : LOWER, factor));
  });
  if (spec.title) {
    const width = row(spec).width + AXES;
    // The title is bold and larger.
    spec.title.text = wrapped([].concat(spec.title.text).join(" "), 0.7 * width);
    spec.title.subtitle = [].concat(spec.title.subtitle || []).flatMap((line) => wrapped(line, width));
  }
  if (isSingle && !hasNames(spec)) {
    const lines = spec.title ? 8 + 16 * spec.title.text.length + 15 * spec.title.subtitle.length : 0;
    const height = document.documentElement.clientHeight - MARGIN - lines - 12 - taken[key].height;
    spec.height = Math.max(LEAST_HEIGHT, Math.min(height, 1.2 * room));
  }
  if (view) view.finalize();
  view = (await vegaEmbed(place, spec, options)).view;
  if (mine === turn) document.documentElement.dataset.drawn = "yes";
}

let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(draw, 150);
});
draw();
