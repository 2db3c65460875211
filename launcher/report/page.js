"use strict";
// Draws the charts from the JSON in the page and makes tables sortable. Without this script all numbers remain readable.

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif";
const CONFIG = {
  background: null,
  font: FONT,
  padding: 2,
  view: { stroke: null },
  axis: {
    labelColor: "var(--soft)", titleColor: "var(--soft)", domainColor: "var(--line)", tickColor: "var(--line)",
    gridColor: "var(--grid)", labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", labelOverlap: true,
  },
  axisX: { grid: false },
  legend: {
    labelColor: "var(--ink)", titleColor: "var(--soft)", labelFontSize: 11, titleFontSize: 11,
    titleFontWeight: "normal", symbolStrokeWidth: 3, symbolType: "stroke",
  },
  text: { fontSize: 11 },
  tooltip: { content: "encoding" },
};
// The AST interpreter satisfies the page's Content-Security-Policy, which forbids eval.
const OPTIONS = {
  mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: CONFIG, defaultStyle: false,
  tooltip: { disableDefaultStyle: true, theme: "page" },
};

function rows(columns) {
  const names = Object.keys(columns);
  return columns[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
}

function datasetsOf(spec, data) {
  const text = JSON.stringify(spec);
  const names = Object.keys(data).filter((name) => text.includes(JSON.stringify({ name })));
  return Object.fromEntries(names.map((name) => [name, rows(data[name])]));
}

async function draw() {
  const { specs, data } = JSON.parse(document.getElementById("charts").textContent);
  for (const place of document.querySelectorAll("[data-chart]")) {
    const spec = specs[Number(place.dataset.chart)];
    try {
      await vegaEmbed(place, { ...spec, datasets: datasetsOf(spec, data) }, OPTIONS);
    } catch (error) {
      place.textContent = `Could not draw this chart (${error.message}); the table below has its numbers.`;
      console.error(error);
    }
  }
  document.documentElement.dataset.drawn = "true";
}

function sortBy(table, column, button) {
  const head = button.closest("th");
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const keyed = [...table.tBodies[0].rows].map((row) => [row.cells[column].dataset.sort, row.cells[column].innerText, row]);
  keyed.sort(([a, aText], [b, bText]) => {
    // Rows without a number come last in both directions.
    const missing = (a === undefined) - (b === undefined);
    if (missing) return ascending ? missing : -missing;
    return a === undefined ? aText.localeCompare(bText, undefined, { numeric: true }) : Number(a) - Number(b);
  });
  if (!ascending) keyed.reverse();
  table.tBodies[0].append(...keyed.map(([, , row]) => row));
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column, button));
    head.append(button);
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
if (document.querySelector("[data-chart]")) draw();
