"use strict";
// Draws the Vega-Lite specifications of the page, in the width of their container and the colours of the screen. On paper
// they are light, and what is folded on the screen is open.
(() => {
  const { dark, figures } = JSON.parse(document.getElementById("charts-data").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map(); // container -> width at which it was drawn
  const views = new Map(); // container -> views to free before it is drawn again
  let printing = false; // paper is white, whatever the screen is
  const isDark = () => scheme.matches && !printing;

  // Only colours in marks, scales and config are replaced: rows of data belong to the user.
  function recoloured(value, key) {
    if (key === "data" || key === "datasets" || key === "domain") return value;
    if (typeof value === "string") return dark[value] ?? value;
    if (Array.isArray(value)) return value.map((item) => recoloured(item));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, recoloured(item, name)]));
  }

  // Splits a concatenation into its panels, so that the page can arrange them. The page has its own headings and legend.
  function panels(specification) {
    const { concat, columns, spacing, title, ...shared } = specification;
    return concat ? concat.map((panel) => ({ ...shared, ...panel })) : [shared];
  }

  function withoutLegends(value) {
    if (Array.isArray(value)) return value.map(withoutLegends);
    if (value === null || typeof value !== "object") return value;
    const entries = Object.entries(value).filter(([name]) => name !== "data");
    const plain = entries.map(([name, item]) => [name, name === "legend" ? null : withoutLegends(item)]);
    return value.data ? { ...Object.fromEntries(plain), data: value.data } : Object.fromEntries(plain);
  }

  function prepared(panel, width) {
    const { config, datasets, ...rest } = panel;
    const plain = { ...withoutLegends(rest), config: { ...config, aria: false }, width, padding: 2 };
    if (datasets) plain.datasets = datasets;
    plain.background = "transparent";
    plain.autosize = { type: "fit-x", contains: "padding" };
    return isDark() ? recoloured(plain) : plain;
  }

  const options = {
    actions: false,
    ast: true, // expressions are interpreted, never compiled: the page allows no eval
    renderer: "svg",
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true, theme: "own" },
  };

  async function draw(container) {
    const parts = panels(figures[container.dataset.figure]);
    const colours = isDark() ? "dark" : "light";
    for (const view of views.get(container) ?? []) view.finalize();
    const boxes = parts.map(() => {
      const box = document.createElement("div");
      box.className = "panel";
      return box;
    });
    container.style.minHeight = `${container.clientHeight}px`;
    container.replaceChildren(...boxes);
    container.dataset.panels = String(parts.length);
    drawn.set(container, container.clientWidth);
    const results = await Promise.all(
      parts.map((part, index) => vegaEmbed(boxes[index], prepared(part, boxes[index].clientWidth), options)),
    );
    views.set(container, results.map((result) => result.view));
    container.style.minHeight = "";
    container.dataset.drawn = colours;
  }

  const containers = [...document.querySelectorAll(".chart")];
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "800px" },
  );
  for (const container of containers) watcher.observe(container);

  scheme.addEventListener("change", () => {
    for (const container of drawn.keys()) draw(container);
  });
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [container, width] of drawn) if (container.clientWidth !== width) draw(container);
    }, 150);
  });
  // Drawing waits for nothing but resolved promises, so it ends before the page is laid out for paper.
  function drawAgain(forPrint) {
    printing = forPrint;
    const colours = isDark() ? "dark" : "light";
    for (const container of containers) if ((forPrint || drawn.has(container)) && container.dataset.drawn !== colours) draw(container);
  }
  // The style sheet does the same in browsers that know ::details-content.
  let unfolded = [];
  function unfold(forPrint) {
    for (const one of unfolded) one.open = false;
    unfolded = forPrint ? [...document.querySelectorAll("details[data-print]:not([open])")] : [];
    for (const one of unfolded) one.open = true;
  }
  window.addEventListener("beforeprint", () => {
    unfold(true);
    drawAgain(true);
  });
  window.addEventListener("afterprint", () => {
    unfold(false);
    drawAgain(false);
  });
})();
