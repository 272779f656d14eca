const LOOK_MILLISECONDS = 2000;
const at = (id) => document.getElementById(id);

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = escapeControls(text);
  return made;
}

function drawing(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

// The interval of a row on the scale that all rows share.
function picture(row, low, high) {
  const place = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  const svg = drawing("svg", { width: "100%", height: 20, "aria-hidden": true });
  if (row.low !== null && row.high !== null)
    svg.append(drawing("line", { x1: place(row.low), x2: place(row.high), y1: 10, y2: 10 }));
  svg.append(drawing("circle", { cx: place(row.mean), cy: 10, r: 5 }));
  return svg;
}

function line(row, low, high) {
  const made = document.createElement("tr");
  const name = element("th", row.title);
  name.scope = "row";
  const plot = document.createElement("td");
  plot.className = "plot";
  plot.append(picture(row, low, high));
  const number = element("td", row.text.slice(row.title.length).trim());
  number.className = "number";
  made.append(name, plot, number, element("td", `${row.runs} ${row.runs === 1 ? "run" : "runs"}`));
  return made;
}

function working(run) {
  const made = element("li", `${run.name}: ${run.words}`);
  if (run.total) {
    const bar = document.createElement("progress");
    [bar.max, bar.value] = [run.total, run.done];
    bar.setAttribute("aria-label", escapeControls(run.name));
    made.append(bar);
  }
  return made;
}

function show(view) {
  // A live region speaks only where its text changes.
  const headline = escapeControls(view.headline);
  if (at("headline").textContent !== headline) at("headline").textContent = headline;
  [at("bar").max, at("bar").value] = [Math.max(1, view.total), view.done];
  at("plan").textContent = escapeControls(view.plan);
  const soFar = view.ended ? "" : " so far";
  at("verdict").textContent = view.verdict ? `Verdict${soFar}: ${escapeControls(view.verdict)}` : "No run has a score yet.";
  at("scores-title").textContent = escapeControls(`${view.metric || "Scores"}${soFar}`);
  const ends = view.rows.flatMap((row) => [row.mean, row.low ?? row.mean, row.high ?? row.mean]);
  const rows = view.rows.map((row) => line(row, Math.min(...ends), Math.max(...ends)));
  at("scores").hidden = rows.length === 0;
  at("scores").tBodies[0].replaceChildren(...rows);
  at("memory").textContent = view.memory ? `Memory in use: ${escapeControls(view.memory)}` : "";
  at("working").replaceChildren(...view.working.map(working));
  at("at-work").hidden = view.working.length === 0;
  at("away").textContent = "";
}

async function look() {
  let ended = false;
  try {
    const response = await fetch("view", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
    const view = await response.json();
    if (view.error) at("away").textContent = escapeControls(view.error);
    else show(view);
    ended = Boolean(view.ended);
  } catch {
    at("away").textContent = "The program that serves this page has ended or does not answer. What is shown is its last look.";
  }
  setTimeout(look, ended ? 10 * LOOK_MILLISECONDS : LOOK_MILLISECONDS);
}
look();
