// Ctrl-K: pages at once, and whatever the server finds for what is typed (schedules, executions, nodes, jobs to run).
import { $, $$, make } from "./dom.js";

let dialog, field, found, options = [], chosen = 0, asked = 0;

function pages(text) {
  return $$("#nav a")
    .map((a) => ({ label: $("span", a).textContent, note: "page", href: a.getAttribute("href") }))
    .filter(({ label }) => label.toLowerCase().includes(text));
}

function show(list) {
  options = list;
  chosen = 0;
  found.replaceChildren(...list.map(({ label, note }, place) =>
    make("li", { role: "option", id: `found-${place}`, "aria-selected": String(place === 0), onclick: () => go(place) },
      make("span", {}, label), make("small", {}, note))));
  field.setAttribute("aria-activedescendant", list.length ? "found-0" : "");
}

function choose(place) {
  if (!options.length) return;
  chosen = (place + options.length) % options.length;
  [...found.children].forEach((row, at) => row.setAttribute("aria-selected", String(at === chosen)));
  found.children[chosen].scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", `found-${chosen}`);
}

function go(place) {
  const option = options[place];
  if (option) location.href = option.href;
}

async function ask() {
  const text = field.value.trim().toLowerCase(), mine = ++asked;
  const here = pages(text);
  show(here);
  if (!text) return;
  const answer = await fetch(`/find?q=${encodeURIComponent(field.value.trim())}`, { headers: { Accept: "application/json" } }).catch(() => null);
  if (mine !== asked || !answer?.ok) return;
  show([...here, ...(await answer.json())]);
}

function open() {
  if (dialog?.open) return;
  field = make("input", { type: "text", maxlength: 200, role: "combobox", "aria-label": "Find", "aria-controls": "found", "aria-expanded": "true",
    placeholder: "A page, schedule, execution, node …", autocomplete: "off", spellcheck: "false", oninput: ask });
  found = make("ul", { role: "listbox", id: "found", "aria-label": "Found" });
  dialog = make("dialog", { class: "palette", "aria-label": "Find anything" }, field, found);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) { event.preventDefault(); choose(chosen + by); }
    if (event.key === "Enter") { event.preventDefault(); go(chosen); }
  });
  document.body.append(dialog);
  dialog.showModal();
  field.focus();
  ask();
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); open(); }
});
$("#palette-open")?.addEventListener("click", open);
