// Long forms: one that was refused shows why, and what was typed isn't left by accident.
import { $ } from "./dom.js";

const form = $("#editor");
let typed = false;

form.addEventListener("input", () => { typed = true; });
document.addEventListener("sz:done", () => { typed = false; });
$("[data-leave]", form)?.addEventListener("click", () => { typed = false; });
addEventListener("beforeunload", (event) => { if (typed) event.preventDefault(); });

document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (detail.ctx?.target !== form) return;
  // The button that was pressed is at the other end of the page.
  const said = $(".wrong", form);
  said?.focus({ preventScroll: true });
  said?.scrollIntoView({ block: "center" });
});
