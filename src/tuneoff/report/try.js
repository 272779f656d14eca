const methods = JSON.parse(document.getElementById("methods").textContent);
const form = document.getElementById("form");
const texts = document.getElementById("texts");
const status = document.getElementById("status");

function element(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = escapeControls(text);
  if (className) made.className = className;
  return made;
}

function column(method) {
  const section = document.createElement("section");
  section.dataset.method = method.name;
  const header = document.createElement("header");
  const time = element("time", "");
  header.append(element("h2", method.title), time);
  const body = element("p", "…", "note");
  section.append(header, body);
  texts.append(section);
  return { section, time, body };
}

async function write(method, place, question) {
  try {
    const response = await fetch("write", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...question, method: method.name }),
    });
    const answer = await response.json();
    if (answer.error) throw new Error(answer.error);
    place.body.className = "";
    place.body.textContent = answer.text ? escapeControls(answer.text) : "(an empty text)";
    place.time.textContent = `${answer.seconds.toFixed(1)} s`;
    if (answer.note) place.section.append(element("p", answer.note, "note"));
  } catch (error) {
    place.body.className = "error";
    place.body.textContent = escapeControls(String(error.message || error));
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = {};
  for (const input of form.querySelectorAll("[data-field]")) fields[input.dataset.field] = input.value;
  const question = { document: document.getElementById("document").value, fields };
  const button = document.getElementById("write");
  button.disabled = true;
  texts.replaceChildren();
  const places = methods.map(column);
  for (const [index, method] of methods.entries()) {
    status.textContent = `${escapeControls(method.title)} is writing (${index + 1} of ${methods.length})`;
    await write(method, places[index], question);
  }
  status.textContent = "Done";
  button.disabled = false;
});
