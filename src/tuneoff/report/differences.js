"use strict";
// Two systems, document by document: dots in the order of the difference. `open(index)` shows a document in the reader;
// it is null where there are no texts. `total`: the documents of the study, of which the page may show a part.
function makeDifferences({ documents, total, systems, metric, written, open }) {
  const at = (id) => document.getElementById(id);
  const chart = at("pair-chart");
  const HEIGHT = 240;
  const SIDE = { left: 44, right: 10, top: 28, bottom: 20 };
  const scored = systems.map((system, index) => [index, system]).filter(([, system]) => system.means.some((mean) => mean !== null));
  if (scored.length < 2) return null;
  let rows = []; // [difference, index of the document], the largest first
  let position = 0;

  function svg(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    if (text !== undefined) element.textContent = text;
    return element;
  }
  const chosen = () => [systems[Number(at("pair-first").value)], systems[Number(at("pair-second").value)]];
  const name = (system) => escapeControls(system.label);

  function describe(index) {
    const [first, second] = chosen();
    const [difference, which] = rows[index];
    return `${escapeControls(documents[which].id)}: ${written(difference, metric, true)} (${name(first)} ${written(first.means[which], metric, false)}, ${name(second)} ${written(second.means[which], metric, false)})`;
  }

  function scales(width) {
    const ends = rows.map(([difference]) => difference);
    const [top, bottom] = [Math.max(0, ...ends), Math.min(0, ...ends)];
    const range = top - bottom || 1;
    const inner = width - SIDE.left - SIDE.right;
    return {
      x: (index) => SIDE.left + (rows.length > 1 ? (index / (rows.length - 1)) * inner : inner / 2),
      y: (value) => SIDE.top + ((top - value) / range) * (HEIGHT - SIDE.top - SIDE.bottom),
      ticks: [top, 0, bottom].filter((value, index, all) => all.indexOf(value) === index),
    };
  }

  function draw() {
    const [first, second] = chosen();
    const width = Math.max(240, chart.clientWidth);
    const { x, y, ticks } = scales(width);
    chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const parts = ticks.flatMap((value) => [
      svg("line", { class: value === 0 ? "zero" : "grid", x1: SIDE.left, x2: width - SIDE.right, y1: y(value), y2: y(value) }),
      svg("text", { x: SIDE.left - 6, y: y(value) + 4, "text-anchor": "end" }, written(value, metric, true)),
    ]);
    parts.push(svg("text", { x: SIDE.left, y: 14 }, `${name(first)} better`));
    parts.push(svg("text", { x: width - SIDE.right, y: HEIGHT - 5, "text-anchor": "end" }, `${name(second)} better`));
    rows.forEach(([difference], index) => {
      const hue = difference === 0 ? 0 : ((difference > 0 ? first : second).hue ?? 0);
      parts.push(svg("circle", { class: `hue-${hue}`, cx: x(index).toFixed(1), cy: y(difference).toFixed(1), r: rows.length > 400 ? 2 : 3.5 }));
    });
    parts.push(svg("circle", { class: "cursor", r: 7 }));
    chart.replaceChildren(...parts);
    point(position);
  }

  function point(index) {
    position = Math.max(0, Math.min(rows.length - 1, index));
    const { x, y } = scales(Math.max(240, chart.clientWidth));
    const cursor = chart.querySelector(".cursor");
    cursor.setAttribute("cx", x(position));
    cursor.setAttribute("cy", y(rows[position][0]));
    const words = describe(position);
    chart.setAttribute("aria-valuenow", String(position + 1));
    chart.setAttribute("aria-valuetext", words);
    const text = escapeControls(documents[rows[position][1]].text.slice(0, 160));
    at("pair-where").textContent = `${position + 1} of ${rows.length}. ${words}. ${text}`.trimEnd();
  }

  function compute() {
    const [first, second] = chosen();
    rows = documents
      .map((_, index) => [first.means[index], second.means[index], index])
      .filter(([one, other]) => one !== null && other !== null)
      .map(([one, other, index]) => [one - other, index])
      .sort((one, other) => other[0] - one[0] || one[1] - other[1]);
    const more = rows.filter(([difference]) => difference > 0).length;
    const fewer = rows.filter(([difference]) => difference < 0).length;
    chart.toggleAttribute("hidden", rows.length === 0);
    if (rows.length === 0) {
      at("pair-words").textContent = "These two have no document in common.";
      at("pair-where").textContent = "";
      return;
    }
    const mean = rows.reduce((sum, [difference]) => sum + difference, 0) / rows.length;
    const number = rows.length.toLocaleString("en");
    const over = documents.length < total ? ` over these ${number} documents:` : "";
    at("pair-words").textContent = `${name(first)} has the higher score in ${more.toLocaleString("en")} of ${number} documents, ${name(second)} in ${fewer.toLocaleString("en")}; in ${(rows.length - more - fewer).toLocaleString("en")} they are equal. Mean difference${over} ${written(mean, metric, true)}.`;
    chart.setAttribute("aria-valuemin", "1");
    chart.setAttribute("aria-valuemax", String(rows.length));
    chart.setAttribute("aria-label", `Documents by the difference between ${name(first)} and ${name(second)}`);
    position = 0;
    draw();
  }

  for (const [id, preset] of [["pair-first", 0], ["pair-second", 1]]) {
    for (const [index, system] of scored) {
      const option = document.createElement("option");
      option.value = String(index);
      option.textContent = name(system);
      at(id).append(option);
    }
    // The two with the highest means come first in a reader's mind.
    const mean = ([, system]) => {
      const known = system.means.filter((value) => value !== null);
      return known.reduce((sum, value) => sum + value, 0) / known.length;
    };
    const methods = scored.filter(([, system]) => system.kind === "method");
    const ranked = [...(methods.length > 1 ? methods : scored)].sort((one, other) => mean(other) - mean(one));
    at(id).value = String(ranked[preset][0]);
    at(id).addEventListener("change", compute);
  }

  const nearest = (event) => {
    const box = chart.getBoundingClientRect();
    const scale = Math.max(240, chart.clientWidth) / box.width;
    const inner = Math.max(240, chart.clientWidth) - SIDE.left - SIDE.right;
    return Math.round((((event.clientX - box.left) * scale - SIDE.left) / inner) * (rows.length - 1));
  };
  const choose = () => open?.(rows[position][1], Number(at("pair-first").value), Number(at("pair-second").value));
  chart.addEventListener("pointermove", (event) => point(nearest(event)));
  chart.addEventListener("click", (event) => {
    point(nearest(event));
    choose();
  });
  chart.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 20, PageDown: -20, Home: -rows.length, End: rows.length };
    if (event.key === "Enter" || event.key === " ") choose();
    else if (steps[event.key] !== undefined) point(position + steps[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(draw, 150);
  });
  return compute;
}
