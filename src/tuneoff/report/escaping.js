"use strict";
// Texts of strangers for `textContent`: control characters and direction overrides are shown by their code instead of
// acting. The same characters as in hostile.py. Stands in front of the script that shows texts.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]/g;
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
function visible(text) {
  const code = (found) => `⟨U+${found.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  return text.replaceAll("\r\n", "\n").replace(INVISIBLE, code).replace(LONE, code);
}
