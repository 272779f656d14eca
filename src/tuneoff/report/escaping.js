"use strict";
// Untrusted text for `textContent`: control characters and direction overrides are replaced by their code. The same
// characters as in escaping.py. Comes before every script that shows texts.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]/g;
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
function escapeControls(text) {
  const code = (found) => `⟨U+${found.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  return text.replaceAll("\r\n", "\n").replace(CONTROLS, code).replace(LONE_SURROGATE, code);
}
