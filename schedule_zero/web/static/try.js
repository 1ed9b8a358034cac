// <try-it>: sends one operation of the API as the one who is signed in, and shows what comes back, as text.
import { $, make, xsrf } from "./dom.js";
import { agreed } from "./forms.js";

const MOST_SHOWN = 200_000;
// A stream of events is listened to for so long.
const LISTEN_MS = 5_000;

/** JSON text with line breaks, its numbers as they are written: no big integer is mangled by reading it. */
export function pretty(text) {
  let out = "", depth = 0, quoted = false;
  const line = () => "\n" + "  ".repeat(depth);
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (quoted) {
      out += char;
      if (char === "\\") out += text[++at] ?? "";
      else if (char === '"') quoted = false;
    } else if (char === '"') { quoted = true; out += char; }
    else if (char === "{" || char === "[") {
      const empty = /^\s*[}\]]/.exec(text.slice(at + 1, at + 20));
      if (empty) { out += char + empty[0].trim(); at += empty[0].length; }
      else { depth++; out += char + line(); }
    } else if (char === "}" || char === "]") { depth = Math.max(0, depth - 1); out += line() + char; }
    else if (char === ",") out += char + line();
    else if (char === ":") out += ": ";
    else if (!/\s/.test(char)) out += char;
  }
  return out;
}

/** As much of the answer's body as is shown, and why it ends there. */
async function read(answer, abort) {
  const decoder = new TextDecoder(), reader = answer.body?.getReader();
  const listens = (answer.headers.get("Content-Type") ?? "").includes("event-stream");
  let text = "", note = "";
  if (!reader) return { text, note };
  const timer = listens ? setTimeout(() => { note = `Listened for ${LISTEN_MS / 1000} s.`; abort.abort(); }, LISTEN_MS) : 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      if (text.length > MOST_SHOWN) {
        text = text.slice(0, MOST_SHOWN);
        note = `Cut at ${MOST_SHOWN.toLocaleString("en")} characters.`;
        abort.abort();
        break;
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    clearTimeout(timer);
  }
  return { text, note };
}

class TryIt extends HTMLElement {
  connectedCallback() {
    this.hidden = false;
    this.form = $("form", this);
    this.output = $("output", this);
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
  }

  /** The address, the headers and the body that the fields say. */
  request() {
    let path = this.dataset.path;
    const query = new URLSearchParams(), headers = { Accept: "application/json, */*" };
    for (const { name, value } of this.form.querySelectorAll("input")) {
      const [place, field] = [name.slice(0, name.indexOf(":")), name.slice(name.indexOf(":") + 1)];
      if (place === "path") path = path.replace(`{${field}}`, encodeURIComponent(value));
      else if (value && place === "query") query.append(field, value);
      else if (value) headers[field] = value;
    }
    const text = $("textarea", this.form)?.value.trim();
    if (text) headers["Content-Type"] = "application/json";
    return { path: String(query) ? `${path}?${query}` : path, headers, body: text || undefined };
  }

  async send() {
    const { method } = this.dataset, { path, headers, body } = this.request(), button = $("button", this.form);
    if (method !== "GET") {
      if (!(await agreed(`Send ${method} ${path} to this server? It changes what is there.`, `Send ${method}`))) return;
      headers["X-Xsrf-Token"] = xsrf();
    }
    const abort = new AbortController(), began = performance.now();
    button.disabled = true;
    this.output.replaceChildren(make("p", { class: "hint" }, "Waiting for the answer …"));
    try {
      const answer = await fetch(path, { method, headers, body, signal: abort.signal, redirect: "manual" });
      const first = performance.now() - began;
      const { text, note } = await read(answer, abort);
      this.show(answer, text, note, first);
    } catch (error) {
      this.output.replaceChildren(make("p", { class: "problem" }, `No answer: ${error.message}`));
    } finally {
      button.disabled = false;
    }
  }

  show(answer, text, note, took) {
    const json = (answer.headers.get("Content-Type") ?? "").includes("json");
    const said = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    this.output.replaceChildren(
      make("p", {}, make("b", { class: answer.ok ? "ok" : "bad" }, `${answer.status} ${answer.statusText}`), ` after ${took.toFixed(0)} ms. ${note}`),
      make("details", {}, make("summary", {}, "Headers"), make("pre", { tabindex: "0" }, said)),
      make("pre", { class: "payload", tabindex: "0", "aria-label": "Body of the answer" }, text ? (json ? pretty(text) : text) : "(no body)"));
  }
}

customElements.define("try-it", TryIt);
