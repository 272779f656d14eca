"use strict";
// The reader of documents, and above it two methods document by document. Text reaches the page only through
// textContent.
(() => {
  const { readable, documents, total, systems, metrics, primary } = JSON.parse(document.getElementById("reader-data").textContent);
  if (documents.length === 0) return;
  const at = (id) => document.getElementById(id);
  function written(value, metric, signed) {
    if (value === null) return "–";
    const text = Math.abs(value).toFixed(metrics[metric].digits);
    const zero = Number(text) === 0;
    return (value < 0 && !zero ? "−" : signed && !zero ? "+" : "") + text;
  }
  function compare(open) {
    at("differences").hidden = false; // before it is drawn: what is hidden has no width
    const compute = makeDifferences({ documents, total, systems, metric: primary, written, open });
    at("differences").hidden = compute === null;
    compute?.();
  }
  if (!readable) {
    compare(null);
    return;
  }
  const PORTION = 80; // rows of the list made at once

  const state = { query: "", metric: primary, sort: "", minus: "", seed: 0, mark: "both", ascending: false, means: false };
  let order = documents.map((_, index) => index);
  let open = 0; // position within order

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function outputOf(system, index) {
    const outputs = system.outputs;
    return (outputs.find((output) => output.seed === state.seed) ?? outputs[0]).texts[index];
  }
  function scoreOf(system, index, metric) {
    return outputOf(system, index)?.[1][metric] ?? null;
  }
  // The best of some scores; null if all are equal or the metric has no direction.
  function bestOf(values, metric) {
    const known = values.filter((value) => value !== null);
    const higher = metrics[metric]?.higher_is_better ?? null;
    if (higher === null || new Set(known).size < 2) return null;
    return higher ? Math.max(...known) : Math.min(...known);
  }

  // What the list is sorted by: one system's score, or its lead over another system. By the means over all seeds after a
  // choice in the chart of differences, else by the chosen seed.
  function sortValue(index) {
    if (state.sort === "" || metrics.length === 0) return null;
    const value = (system) => (state.means ? system.means[index] : scoreOf(system, index, state.metric));
    const first = value(systems[state.sort]);
    if (state.minus === "") return first;
    const second = value(systems[state.minus]);
    return first === null || second === null ? null : first - second;
  }

  let haystacks = null;
  function haystack(index) {
    haystacks ??= documents.map((one, index) =>
      [one.id, one.text, ...one.references, ...Object.values(one.fields)]
        .concat(systems.flatMap((system) => system.outputs.map((output) => output.texts[index]?.[0] ?? "")))
        .join("\n")
        .toLowerCase(),
    );
    return haystacks[index];
  }

  const list = at("list");
  function arrange() {
    const kept = order[open];
    const needle = state.query.trim().toLowerCase();
    order = documents.map((_, index) => index).filter((index) => needle === "" || haystack(index).includes(needle));
    if (state.sort !== "") {
      const value = new Map(order.map((index) => [index, sortValue(index)]));
      const sign = state.ascending ? 1 : -1;
      order.sort((one, other) => {
        const [first, second] = [value.get(one), value.get(other)];
        if (first === null || second === null) return (first === null) - (second === null) || one - other;
        return sign * (first - second) || one - other;
      });
    } else if (state.ascending) order.reverse();
    return kept;
  }

  function extend(until) {
    const fragment = document.createDocumentFragment();
    for (let position = list.children.length; position < Math.min(until, order.length); position++) {
      const index = order[position];
      const item = make("li");
      const button = make("button", "row");
      button.type = "button";
      button.tabIndex = -1;
      button.dataset.position = String(position);
      const value = sortValue(index);
      if (state.sort !== "") button.append(make("span", "value", written(value, state.metric, state.minus !== "")));
      const text = make("span", "snippet", escapeControls(documents[index].text.slice(0, 140)));
      text.dir = "auto";
      button.append(text);
      item.append(button);
      fragment.append(item);
    }
    list.append(fragment);
  }

  function refill() {
    list.replaceChildren();
    list.scrollTop = 0;
    extend(PORTION);
    const all = documents.length;
    at("count").textContent =
      order.length === all ? `${all.toLocaleString("en")} texts` : `${order.length.toLocaleString("en")} of ${all.toLocaleString("en")} texts`;
  }
  list.addEventListener("scroll", () => {
    if (list.scrollTop + list.clientHeight > list.scrollHeight - 300) extend(list.children.length + PORTION);
  });

  const WORD = /[\p{L}\p{N}]+/gu;
  const words = (text) => new Set((text.toLowerCase().match(WORD) ?? []));

  // Text with words marked: `markOf` has the class of a word, or "".
  function marked(text, markOf) {
    const paragraph = make("p", "text");
    paragraph.dir = "auto";
    if (!markOf) {
      paragraph.textContent = escapeControls(text);
      return paragraph;
    }
    let from = 0;
    for (const found of text.matchAll(WORD)) {
      const mark = markOf(found[0].toLowerCase());
      if (mark === "") continue;
      if (found.index > from) paragraph.append(escapeControls(text.slice(from, found.index)));
      paragraph.append(make("mark", mark, found[0]));
      from = found.index + found[0].length;
    }
    paragraph.append(escapeControls(text.slice(from)));
    return paragraph;
  }

  function card(system, index, best, markOf) {
    const box = make("section", `card ${system.kind}`);
    const head = make("h4");
    const key = make("span", `key hue-${system.hue ?? 0}`, system.glyph);
    key.setAttribute("aria-hidden", "true");
    const name = make("bdi", "", escapeControls(system.label));
    head.append(key, name);
    const output = outputOf(system, index);
    const value = output ? scoreOf(system, index, state.metric) : null;
    if (metrics.length > 0) {
      const score = make("span", "score", written(value, state.metric, false));
      score.title = metrics[state.metric].title;
      if (value !== null && value === best) score.append(make("span", "aside", " best"));
      if (value !== null && value === best) score.classList.add("best");
      head.append(score);
    }
    box.append(head);
    if (!output) box.append(make("p", "text none", "no output recorded"));
    else if (output[0].trim() === "") box.append(make("p", "text none", "empty output"));
    else box.append(marked(output[0], markOf));
    if (output) {
      const rest = make("p", "scores");
      metrics.forEach((metric, column) => {
        if (column === state.metric || output[1][column] === null) return;
        const one = make("span");
        one.append(make("span", "what", metric.title), ` ${written(output[1][column], column, false)}`);
        rest.append(one);
      });
      // Folded, so that the numbers do not hide the text.
      const more = make("details");
      more.append(make("summary", "", "all scores"), rest);
      if (rest.children.length > 0) box.append(more);
    }
    return box;
  }

  function show() {
    const content = at("content");
    const none = order.length === 0;
    at("previous").disabled = none || open === 0;
    at("next").disabled = none || open >= order.length - 1;
    at("position").textContent = none ? "" : `${(open + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}`;
    list.querySelector("[aria-current]")?.removeAttribute("aria-current");
    if (none) {
      content.replaceChildren(make("p", "empty", "No text matches."));
      return;
    }
    extend(open + PORTION / 2);
    const row = list.children[open].firstChild;
    row.setAttribute("aria-current", "true");
    const above = row.offsetTop - list.offsetTop;
    if (above < list.scrollTop || above + row.offsetHeight > list.scrollTop + list.clientHeight)
      list.scrollTop = above - list.clientHeight / 3;

    const index = order[open];
    const one = documents[index];
    const about = make("p", "about");
    const link = make("a", "", "");
    link.href = linkOf(one.id);
    link.title = "Link to this document";
    link.append(make("code", "", escapeControls(one.id)));
    about.append(link);
    for (const [name, value] of Object.entries(one.fields)) {
      const chip = make("span", "chip");
      chip.append(make("span", "what", escapeControls(name)), " ", make("bdi", "", escapeControls(value)));
      about.append(chip);
    }
    const source = make("div", "source");
    const text = marked(one.text, null);
    text.tabIndex = 0;
    source.append(make("h3", "", "Document"), text);
    const references = make("div", "references");
    references.append(make("h3", "", one.references.length > 1 ? `${one.references.length} references` : "Reference"));
    for (const reference of one.references) references.append(marked(reference, null));

    const [inDocument, inReference] = [words(one.text), words(one.references.join(" "))];
    const wanted = { both: ["shared", "novel"], shared: ["shared"], novel: ["novel"] }[state.mark] ?? [];
    const markOf = (word) => {
      const found = [...(inReference.has(word) ? ["shared"] : []), ...(inDocument.has(word) ? [] : ["novel"])];
      return found.filter((mark) => wanted.includes(mark)).join(" ");
    };
    at("mark-key").hidden = wanted.length === 0;
    for (const mark of ["shared", "novel"]) at("mark-key").querySelector(`.${mark}`).hidden = !wanted.includes(mark);
    const values = systems.filter((system) => system.kind !== "extractive").map((system) => scoreOf(system, index, state.metric));
    const best = bestOf(values, state.metric);
    const cards = make("div", "cards");
    for (const system of systems) cards.append(card(system, index, system.kind !== "extractive" ? best : null, wanted.length ? markOf : null));
    const scored = metrics.length > 0 ? `Outputs, with ${metrics[state.metric].title}` : "Outputs";
    content.replaceChildren(about, source, references, make("h3", "", scored), cards);
  }

  const linkOf = (id) => `#doc=${encodeURIComponent(id.toWellFormed?.() ?? id)}`;

  function go(position) {
    if (position < 0 || position >= order.length) return;
    open = position;
    show();
    history.replaceState(null, "", linkOf(documents[order[open]].id));
  }

  // Opens a document whatever is searched for, and brings it onto the screen.
  function goTo(index) {
    if (!order.includes(index)) {
      at("search").value = state.query = "";
      arrange();
      refill();
    }
    go(order.indexOf(index));
    at("open").scrollIntoView({ block: "start" });
    at("open").focus({ preventScroll: true });
  }

  // `#doc=ID` names a document.
  function follow() {
    const found = /^#doc=(.*)$/s.exec(location.hash);
    if (!found) return;
    let wanted;
    try {
      wanted = decodeURIComponent(found[1]);
    } catch {
      wanted = found[1];
    }
    const index = documents.findIndex((one) => one.id === wanted);
    if (index >= 0) goTo(index);
    else at("count").textContent = `This page has no document ${escapeControls(wanted.slice(0, 80))}.`;
  }
  // After a new sort the first document is open. After any other change of order the open document stays open if it can.
  function rearranged(toTop) {
    const kept = arrange();
    open = toTop ? 0 : Math.max(0, order.indexOf(kept));
    refill();
    show();
  }

  function choices(select, options, chosen) {
    for (const [value, label] of options) {
      const option = make("option", "", label);
      option.value = String(value);
      select.append(option);
    }
    select.value = String(chosen);
  }
  const names = systems.map((system, index) => [index, escapeControls(system.label)]);
  choices(at("sort"), [["", "file order"], ...names], "");
  choices(at("minus"), [["", "–"], ...names], "");
  choices(at("metric"), metrics.map((metric, index) => [index, metric.title]), primary);
  const seeds = [...new Set(systems.flatMap((system) => system.outputs.map((output) => output.seed)))].sort((a, b) => a - b);
  state.seed = seeds[0] ?? 0;
  choices(at("seed"), seeds.map((seed) => [seed, `seed ${seed}`]), state.seed);
  at("seed-label").hidden = seeds.length < 2;
  at("minus").disabled = true;

  const number = (value) => (value === "" ? "" : Number(value));
  at("sort").addEventListener("change", (event) => {
    state.means = false;
    state.sort = number(event.target.value);
    at("minus").disabled = state.sort === "";
    rearranged(true);
  });
  at("minus").addEventListener("change", (event) => {
    state.means = false;
    state.minus = number(event.target.value);
    rearranged(true);
  });
  at("metric").addEventListener("change", (event) => {
    state.means = false;
    state.metric = number(event.target.value);
    rearranged(state.sort !== "");
  });
  at("seed").addEventListener("change", (event) => {
    state.means = false;
    state.seed = number(event.target.value);
    rearranged(false);
  });
  at("mark").addEventListener("change", (event) => {
    state.mark = event.target.value;
    show();
  });
  at("direction").addEventListener("click", (event) => {
    state.ascending = !state.ascending;
    event.currentTarget.setAttribute("aria-pressed", String(state.ascending));
    rearranged(true);
  });
  let typing;
  at("search").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      state.query = event.target.value;
      rearranged(false);
    }, 120);
  });
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());

  at("previous").addEventListener("click", () => go(open - 1));
  at("next").addEventListener("click", () => go(open + 1));
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) go(Number(row.dataset.position));
  });
  // Arrow keys turn pages while the documents are on the screen; in the list, up and down do as well.
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea, .scroll, pre")) return;
    const inList = list.contains(event.target);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ...(inList ? { ArrowUp: -1, ArrowDown: 1 } : {}) };
    const step = steps[event.key];
    if (step === undefined) return;
    const box = at("documents").getBoundingClientRect();
    if (box.bottom < 0 || box.top > window.innerHeight) return;
    event.preventDefault();
    go(open + step);
  });

  at("reader").hidden = false;
  arrange();
  refill();
  show();

  compare((index, first, second) => {
    [state.sort, state.minus, state.metric, state.means] = [first, second, primary, true];
    for (const id of ["sort", "minus", "metric"]) at(id).value = String(state[id]);
    at("minus").disabled = false;
    arrange();
    refill();
    goTo(index);
  });
  follow();
  addEventListener("hashchange", follow);
})();
