// The search field of executions: what may be typed next, from the server, in a list that the keyboard walks through.
//
// The list never takes the focus and never changes the text by itself: Enter searches unless something was chosen.
import { make } from "./dom.js";

// The server counts characters, a string here counts halves of the rare ones.
const toServer = (text, at) => [...text.slice(0, at)].length;
const toHere = (text, at) => [...text].slice(0, at).join("").length;

class Search extends HTMLElement {
  connectedCallback() {
    if (this.list) return;
    this.field = this.querySelector("input");
    this.list = make("ul", { role: "listbox", id: "suggestions", "aria-label": "Suggestions", hidden: true });
    this.append(this.list);
    const roles = { role: "combobox", "aria-autocomplete": "list", "aria-controls": "suggestions", "aria-expanded": "false" };
    for (const [name, value] of Object.entries(roles)) this.field.setAttribute(name, value);
    this.field.addEventListener("input", () => this.soon());
    this.field.addEventListener("click", () => this.soon());
    this.field.addEventListener("focus", () => this.soon());
    this.field.addEventListener("blur", () => this.close());
    this.field.addEventListener("keydown", (event) => this.key(event));
    this.field.addEventListener("keyup", ({ key }) => { if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(key)) this.soon(); });
    // A click would take the focus before it chooses.
    this.list.addEventListener("mousedown", (event) => event.preventDefault());
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), 120);
  }

  async ask() {
    const text = this.field.value, caret = this.field.selectionStart;
    const mine = (this.asked = (this.asked ?? 0) + 1);
    const query = new URLSearchParams({ q: text, at: toServer(text, caret) });
    const answer = await fetch(`${this.dataset.suggest}?${query}`).catch(() => null);
    const found = answer?.ok ? await answer.json() : { suggestions: [] };
    // Meanwhile something else was typed, or the field was left.
    if (mine !== this.asked || document.activeElement !== this.field || this.field.value !== text) return;
    // (Not `slot`: every element has one.)
    this.gap = { text, start: toHere(text, found.start), end: toHere(text, found.end), typed: caret > toHere(text, found.start) };
    this.show(found.suggestions);
  }

  show(items) {
    this.items = items;
    this.at = -1;
    this.list.replaceChildren(...items.map(({ text, hint }, place) =>
      make("li", { role: "option", id: `suggestion-${place}`, "aria-selected": "false", onclick: () => this.take(place) },
        make("span", {}, text), make("small", {}, hint))));
    this.list.hidden = !items.length;
    this.field.setAttribute("aria-expanded", String(items.length > 0));
    this.field.removeAttribute("aria-activedescendant");
  }

  close() {
    clearTimeout(this.timer);
    this.asked = (this.asked ?? 0) + 1;
    this.show([]);
  }

  choose(place) {
    const count = this.items.length;
    this.at = (place + count) % count;
    [...this.list.children].forEach((row, at) => row.setAttribute("aria-selected", String(at === this.at)));
    this.list.children[this.at].scrollIntoView({ block: "nearest" });
    this.field.setAttribute("aria-activedescendant", `suggestion-${this.at}`);
  }

  take(place) {
    const { text } = this.items[place], { start } = this.gap;
    // What was typed since the server was asked is a part of the slot, too.
    const end = this.gap.end + this.field.value.length - this.gap.text.length;
    if (end < start || /\s/.test(this.field.value.slice(this.gap.end, end))) return this.close();
    // A qualifier goes on with its value, a value with the next term.
    const goes = /[:.]$/.test(text), rest = this.field.value.slice(end);
    this.field.setRangeText(goes || rest.startsWith(" ") ? text : `${text} `, start, end, "end");
    this.close();
    if (goes) this.soon();
  }

  key(event) {
    if (this.list.hidden) {
      if (event.key === "ArrowDown") { event.preventDefault(); this.ask(); }
      return;
    }
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) { event.preventDefault(); this.choose(this.at < 0 && by < 0 ? -1 : this.at + by); }
    else if (event.key === "Escape") { event.preventDefault(); this.close(); }
    else if (event.key === "Enter" && this.at >= 0) { event.preventDefault(); this.take(this.at); }
    else if (event.key === "Tab" && !event.shiftKey && (this.at >= 0 || this.gap.typed)) { event.preventDefault(); this.take(Math.max(this.at, 0)); }
  }
}

customElements.define("sz-search", Search);

// The bars of the histogram are one stop of the Tab key; arrows go from one to the next.
const bars = () => [...document.querySelectorAll(".histogram a")];
const rove = (to) => bars().forEach((bar) => bar.setAttribute("tabindex", bar === to ? "0" : "-1"));
document.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key], bar = event.target.closest?.(".histogram a");
  if (!by || !bar) return;
  const next = bars()[bars().indexOf(bar) + by];
  if (next) { event.preventDefault(); rove(next); next.focus(); }
});
document.addEventListener("htmx:after:swap", () => rove(bars().find((bar) => bar === document.activeElement) ?? bars()[0]));
rove(bars()[0]);
