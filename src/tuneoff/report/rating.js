"use strict";
// Shows one pair at a time. Texts reach the page only through textContent. Ratings stay in memory until they are saved.
(() => {
  const data = JSON.parse(document.getElementById("pairs").textContent);
  const choices = new Array(data.pairs.length).fill(null);
  let position = 0;
  const element = (id) => document.getElementById(id);

  function show() {
    const done = choices.filter((choice) => choice !== null).length;
    const pair = data.pairs[position];
    element("position").textContent = `Text ${position + 1} of ${data.pairs.length}, ${done} rated`;
    element("instruction").textContent = pair.instruction ? escapeControls(`Asked for: ${pair.instruction}`) : "";
    element("document").textContent = escapeControls(pair.document);
    element("references").textContent = pair.references.length ? escapeControls(`Reference: ${pair.references[0]}`) : "";
    element("left").textContent = escapeControls(pair.texts[0]);
    element("right").textContent = escapeControls(pair.texts[1]);
    for (const button of document.querySelectorAll("[data-choice]")) {
      button.setAttribute("aria-pressed", String(choices[position] === button.dataset.choice));
    }
  }

  function choose(choice) {
    choices[position] = choice;
    position = Math.min(position + 1, data.pairs.length - 1);
    show();
  }

  function back() {
    position = Math.max(position - 1, 0);
    show();
  }

  function save() {
    const ratings = data.pairs.flatMap((pair, index) => {
      const choice = choices[index];
      if (choice === null) return [];
      const side = choice === "left" ? 0 : 1;
      const method = choice === "same" ? null : data.methods[pair.order[side]];
      return [{ id: pair.id, preferred: method }];
    });
    const content = { kind: "tuneoff ratings", study: data.study, runs: data.runs, methods: data.methods, ratings };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
    link.download = "ratings.json";
    link.click();
    URL.revokeObjectURL(link.href);
    element("saved").textContent = `${ratings.length} ${ratings.length === 1 ? "rating" : "ratings"} saved as ratings.json`;
  }

  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => choose(button.dataset.choice));
  }
  element("back").addEventListener("click", back);
  element("export").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const choice = { 1: "left", 2: "same", 3: "right" }[event.key];
    if (choice) choose(choice);
    if (event.key === "0") back();
  });
  show();
})();
