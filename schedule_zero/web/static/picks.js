// Rows that are ticked, and buttons that do something with them all: what they ask says how many that is.
import { $, $$ } from "./dom.js";

const boxes = () => $$("[data-pick]");

function say() {
  const all = boxes(), ticked = all.filter((box) => box.checked).length;
  for (const button of $$("[data-needs-picks]")) button.disabled = !ticked;
  for (const one of $$("[data-picks-said]")) {
    const noun = one.dataset.picksSaid, text = `${ticked.toLocaleString("en")} ${noun}${ticked === 1 ? "" : "s"}`;
    one.textContent = ticked ? `${text} ticked` : "none ticked";
    for (const button of $$("[data-confirm-picks]")) button.setAttribute("hx-confirm", button.dataset.confirmPicks.replace("{n}", text));
  }
  for (const box of $$("[data-pick-all]")) {
    box.checked = ticked > 0 && ticked === all.length;
    box.indeterminate = ticked > 0 && ticked < all.length;
  }
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-pick-all]")) for (const box of boxes()) box.checked = target.checked;
  if (target.matches("[data-pick], [data-pick-all]")) say();
});
// What was ticked is dealt with: the rows may be asked for again.
document.addEventListener("sz:done", () => {
  const ticked = boxes().filter((box) => box.checked);
  for (const box of ticked) box.checked = false;
  if (ticked.length) for (const part of new Set(ticked.map((box) => box.closest("[data-live]")).filter(Boolean))) htmx.trigger(part, "sz:refresh");
  say();
});
document.addEventListener("htmx:after:swap", say);
say();
