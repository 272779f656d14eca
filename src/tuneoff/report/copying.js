"use strict";
// Buttons that copy or save a text of the page.
(() => {
  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Without access to the clipboard the text is selected, and the keyboard copies it.
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => {
      button.textContent = label;
    }, 2500);
  }

  function save(button) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([document.getElementById(button.dataset.copy).textContent]));
    link.download = button.dataset.file;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  for (const [name, act] of [["copy", copy], ["save", save]]) {
    for (const button of document.querySelectorAll(`button.${name}`)) {
      button.hidden = false;
      button.addEventListener("click", () => act(button));
    }
  }
})();
