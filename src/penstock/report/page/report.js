"use strict";
const data = JSON.parse(document.getElementById("timeline-data").textContent);
const plot = document.getElementById("memory-timeline");
const MIB = 2 ** 20;

function show(position) {
  const row = document.getElementById(`node-${position}`);
  for (let parent = row.parentElement; parent; parent = parent.parentElement) {
    if (parent.tagName === "DETAILS") parent.open = true;
  }
  document.querySelectorAll("tr.chosen").forEach((old) => old.classList.remove("chosen"));
  row.classList.add("chosen");
  row.scrollIntoView({ block: "center" });
}

function drawTimeline() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = (text) => text.replaceAll("<", "&lt;"); // hover text takes markup
  const words = data.node.map((i) => {
    const places = [data.modules[data.module[i]], data.sources[data.source[i]]].filter(Boolean).map(plain);
    return [`<b>${plain(data.name[i])}</b> ${plain(data.op[i])}`, ...places].join("<br>");
  });
  const traces = [{
    name: "after the passes", x: data.live.map((_, i) => i), y: data.live.map((b) => b / MIB), text: words,
    line: { color: colour("--accent"), width: 1.4, shape: "hv" }, fill: "tozeroy", fillcolor: colour("--fill"),
    hovertemplate: "%{y:,.2f} MiB · %{text}<extra></extra>",
  }];
  if (data.captured.length) {
    traces.unshift({
      name: "as captured", x: data.captured.map((_, i) => i), y: data.captured.map((b) => b / MIB), hoverinfo: "skip",
      line: { color: colour("--soft"), width: 1, dash: "dot", shape: "hv" },
    });
  }
  const shapes = [];
  const highest = [...data.live, ...data.captured].reduce((a, b) => Math.max(a, b), 0);
  if (data.left !== null && data.left > 0 && data.left < 1.5 * highest) {
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: data.left / MIB, y1: data.left / MIB,
      line: { color: colour("--lossy"), width: 1, dash: "dash" },
      label: { text: "budget", textposition: "end", font: { color: colour("--lossy") } } });
  }
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false };
  Plotly.react(plot, traces, {
    margin: { l: 64, r: 12, t: 12, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--soft") },
    hoverlabel: { align: "left", bgcolor: colour("--raised"), bordercolor: colour("--line"),
      font: { color: colour("--ink") } },
    xaxis: { ...axis, title: { text: "operator, in execution order" } },
    yaxis: { ...axis, title: { text: "MiB alive" }, rangemode: "tozero" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--line"), activecolor: colour("--accent") },
    hovermode: "x", dragmode: "zoom", showlegend: traces.length > 1, legend: { orientation: "h", y: 1.1, x: 0 }, shapes,
  }, { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] });
}

drawTimeline();
plot.on("plotly_click", (event) => {
  const point = event.points.find((p) => p.data.text);
  if (point) show(data.node[point.pointIndex]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTimeline);

const tree = document.getElementById("tree");
const branches = [...tree.querySelectorAll("details")];
const rows = [...tree.querySelectorAll("tr[id]")].map((row) => {
  const path = row.closest("details").dataset.path;
  return { row, text: `${path} ${row.textContent}`.toLowerCase() };
});

function search(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Set();
  for (const { row, text } of rows) {
    const match = words.every((word) => text.includes(word));
    row.hidden = !match;
    if (match) found.add(row);
  }
  const holding = new Set();
  for (const row of found) {
    for (let e = row.closest("details"); e && !holding.has(e); e = e.parentElement.closest("details")) holding.add(e);
  }
  for (const branch of branches) {
    branch.hidden = words.length > 0 && !holding.has(branch);
    if (words.length) branch.open = holding.has(branch);
  }
  document.getElementById("matches").textContent =
    words.length ? `${found.size.toLocaleString("en")} of ${rows.length.toLocaleString("en")} nodes` : "";
}

let pending = 0;
document.getElementById("search").addEventListener("input", (event) => {
  clearTimeout(pending);
  pending = setTimeout(() => search(event.target.value), 120);
});
document.getElementById("expand").addEventListener("click", () => branches.forEach((b) => (b.open = true)));
document.getElementById("collapse").addEventListener("click", () => branches.forEach((b, i) => (b.open = i === 0)));
document.querySelectorAll('a[href^="#node-"]').forEach((link) =>
  link.addEventListener("click", (event) => { event.preventDefault(); show(link.hash.slice("#node-".length)); }));
