// A job's log: some lines are there; the others come bit by bit, so that the browser's own search finds all of them, and
// new ones while it runs. What is being read stays where it is; at the end one stays at the end.
import { $ } from "./dom.js";

const LOOK_MS = 1000;
const paused = () => sessionStorage.getItem("sz-paused") === "yes" || document.hidden || $("#live")?.dataset.state === "lost";
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Log extends HTMLElement {
  connectedCallback() {
    if (this.box) return;
    this.box = this.querySelector(".log");
    this.addEventListener("click", (event) => this.click(event));
    this.work();
  }

  /** Go to the line that was asked for, or to the end. */
  begin() {
    const at = this.dataset.at || (location.hash.startsWith("#L") ? location.hash.slice(1) : "");
    if (at) document.getElementById(at)?.scrollIntoView({ block: "center" });
    else if (!$(".logbar [name=grep]")?.value) this.toEnd();
  }

  get atEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }

  /** Ask for what comes before or after, until the page is left. */
  async work() {
    this.begin();
    // This module runs before htmx, which stands behind it; and the browser goes to where the address says at the end.
    if (document.readyState !== "complete") await new Promise((loaded) => addEventListener("load", loaded, { once: true }));
    this.begin();
    while (this.isConnected) {
      const earlier = $("#earlier[data-goes-on]", this), later = $("#later[data-goes-on]", this);
      const next = later ?? earlier;
      if (next) {
        if (!(await this.load(next, next.href))) await wait(LOOK_MS);
        continue;
      }
      const end = $("#later[data-follows]", this);
      if (!end) return;
      await wait(LOOK_MS);
      if (!paused() && end.isConnected) await this.load(end, end.dataset.from);
    }
  }

  /** Put the part in the place of what led to it, and let nothing else move. */
  async load(link, url) {
    const before = link.id, follow = this.atEnd;
    const seen = this.firstSeen();
    const top = seen?.getBoundingClientRect().top;
    await htmx.ajax("GET", url, { source: link, target: link, swap: "outerHTML" });
    const lines = $("#later[data-lines]", this)?.dataset.lines;
    if (lines) $("#log-lines").textContent = lines;
    if (follow && before === "later") this.toEnd();
    else if (seen?.isConnected) this.box.scrollTop += seen.getBoundingClientRect().top - top;
    // Something went wrong: it is asked for again later.
    return !link.isConnected;
  }

  firstSeen() {
    const top = this.box.getBoundingClientRect().top;
    const chunk = [...this.box.querySelectorAll(".chunk")].find((one) => one.getBoundingClientRect().bottom > top);
    return chunk && [...chunk.children].find((line) => line.getBoundingClientRect().bottom > top);
  }

  click(event) {
    const link = event.target.closest(".chunk a, a.button");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.matches(".button")) { this.load(link, link.href); return; }
    // The address of the line, to be kept or sent; nothing has to be loaded for it.
    for (const marked of this.querySelectorAll("p.mark")) marked.classList.remove("mark");
    link.parentElement.classList.add("mark");
    history.replaceState(history.state, "", link.getAttribute("href"));
  }
}
customElements.define("sz-log", Log);

const log = () => $("sz-log");
document.addEventListener("click", (event) => {
  const to = event.target.closest("[data-to]")?.dataset.to;
  if (!to || !log()) return;
  // What is there needs not be asked for.
  if (to === "end" && !$("a#later", log())) { event.preventDefault(); log().toEnd(); }
  if (to === "start" && !$("a#earlier", log())) { event.preventDefault(); log().box.scrollTop = 0; }
});
document.addEventListener("change", ({ target }) => {
  if (!target.closest(".logbar") || !target.matches("select, [type=checkbox]")) return;
  if (target.name !== "wrap") { target.form.requestSubmit(); return; }
  log().box.classList.toggle("wrap", target.checked);
  const url = new URL(location.href);
  if (target.checked) url.searchParams.set("wrap", "1");
  else url.searchParams.delete("wrap");
  history.replaceState(history.state, "", url);
});
