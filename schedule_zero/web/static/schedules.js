// The list of schedules: how many are ticked, and what is about to happen to them.
import { $, $$ } from "./dom.js";

const EFFECTS = {
  pause: (what) => `Pause ${what}? Their fires are recorded as skipped until they are resumed.`,
  resume: (what) => `Resume ${what}? They run again from their next fire on.`,
  run: (what) => `Run ${what} now, each once, beside its own times?`,
  skip: (what) => `Skip the next fire of ${what}?`,
  delete: (what) => `Delete ${what}? They never fire again. Their ledger, versions and executions stay.`,
};
const picks = () => $$("[data-pick]");

function count(form) {
  return $("[name=all]", form)?.checked ? Number(form.dataset.matching) : picks().filter((pick) => pick.checked).length;
}

function show() {
  const form = $("#bulk");
  if (!form) return;
  const ticked = picks().filter((pick) => pick.checked).length;
  $("[data-picked]", form).textContent = `${ticked} ticked`;
  const all = $("[data-pick-all]");
  all.checked = ticked > 0 && ticked === picks().length;
  all.indeterminate = ticked > 0 && !all.checked;
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-pick-all]")) for (const pick of picks()) pick.checked = target.checked;
  if (target.matches("[data-pick-all], [data-pick]")) show();
});
// Before the form is sent: what has to be agreed to, with its count.
document.addEventListener("click", (event) => {
  const button = event.target.closest("#bulk button[name=verb]");
  if (!button) return;
  const n = count(button.form);
  button.form.setAttribute("hx-confirm", EFFECTS[button.value](n === 1 ? "1 schedule" : `${n.toLocaleString("en")} schedules`));
}, true);
document.addEventListener("sz:done", ({ target }) => {
  if (target.id !== "bulk") return;
  for (const pick of picks()) pick.checked = false;
  const all = $("[name=all]", target);
  if (all) all.checked = false;
  show();
  htmx.trigger($("#rows"), "sz:refresh");
});
document.addEventListener("htmx:after:swap", show);
show();

// What was done here is seen here at once, also where the part is held because the pointer is on it.
document.addEventListener("sz:done", ({ target }) => {
  const menu = target.closest?.("details.menu");
  if (menu) menu.open = false;
  const live = target.closest?.("[data-live]");
  const pill = live?.previousElementSibling;
  if (pill?.classList.contains("pill")) pill.remove();
  if (live) htmx.trigger(live, "sz:refresh");
});
