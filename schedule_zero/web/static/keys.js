// Keys: g and a letter goes to a page, j and k walk through rows, / finds, ? tells them all.
import { $, $$, isTyping, make } from "./dom.js";

const KEYS = [
  ["?", "this list"],
  ["Ctrl-K", "find a page, a schedule, an execution, something to do"],
  ["/", "to the search field of this page"],
  ["j  k", "to the next row, to the one before"],
  ["Enter", "open the row"],
  ["x", "tick the row"],
  ["p", "pause or resume live updates"],
  ["g then …", () => $$("#nav a").map((a) => `${a.dataset.key} ${$("span", a).textContent}`).join(" · ")],
];
let going = 0;

function rows() {
  return $$("[data-row]").filter((row) => row.offsetParent !== null);
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.classList.contains("current"));
  const next = all[Math.min(all.length - 1, Math.max(0, now + by))];
  all[now]?.classList.remove("current");
  next.classList.add("current");
  next.scrollIntoView({ block: "nearest" });
  $("a", next)?.focus({ preventScroll: true });
}

function list() {
  const dialog = make("dialog", { "aria-label": "Keys" }, make("h2", {}, "Keys"), make("div", { class: "keys" },
    ...KEYS.flatMap(([key, what]) => [make("kbd", {}, key), make("span", {}, typeof what === "string" ? what : what())])),
    make("form", { method: "dialog", class: "actions" }, make("button", {}, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

const ACTIONS = {
  "?": list,
  "/": () => ($("[data-search]") ?? $("#palette-open"))?.[$("[data-search]") ? "focus" : "click"](),
  j: () => step(1),
  k: () => step(-1),
  p: () => $("#pause-live")?.click(),
  x: () => $("tr.current [data-pick]")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || $("dialog[open]")) return;
  if (Date.now() - going < 1500) {
    going = 0;
    const link = $$("#nav a").find((a) => a.dataset.key === event.key);
    if (link) { event.preventDefault(); link.click(); return; }
  }
  if (event.key === "g") { going = Date.now(); return; }
  const action = ACTIONS[event.key];
  if (action) { event.preventDefault(); action(); }
});
$("#keys-open")?.addEventListener("click", list);
