// What forms answer, what has to be agreed to, what can be copied.
import { $, make, toast } from "./dom.js";

document.addEventListener("sz:done", ({ detail }) => {
  if (detail.later) sessionStorage.setItem("sz-said", JSON.stringify(detail));
  else toast(detail.text, { undo: detail.undo });
});
document.addEventListener("sz:problem", ({ detail }) => toast(detail.text, { problem: true }));
document.addEventListener("htmx:error", ({ detail }) => {
  // No answer at all; the stream's own state says the rest.
  if (detail.ctx && detail.ctx.request?.method !== "GET") toast("The server did not answer. Nothing is known of what it did.", { problem: true });
});
const said = sessionStorage.getItem("sz-said");
if (said) {
  sessionStorage.removeItem("sz-said");
  const { text, undo } = JSON.parse(said);
  toast(text, { undo });
}

// The second click of a double click is no second order.
document.addEventListener("click", (event) => {
  const button = event.detail > 1 && event.target.closest("button");
  if (button && button.type === "submit" && button.form?.method === "post") { event.preventDefault(); event.stopImmediatePropagation(); }
}, true);

/** Ask in our own dialog; resolves to whether it was agreed to. */
export function agreed(text, button = "Do it") {
  return new Promise((resolve) => {
    const dialog = make("dialog", { "aria-label": "Please confirm" });
    const form = make("form", { method: "dialog" },
      make("p", {}, text),
      make("div", { class: "actions confirm" },
        // (Two buttons "Cancel", one of which cancels the other: nobody should have to guess.)
        make("button", { value: "no" }, button.startsWith("Cancel") ? "Back" : "Cancel"),
        make("button", { value: "yes", class: "main", autofocus: true }, button)));
    dialog.append(form);
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

document.addEventListener("htmx:confirm", (event) => {
  event.preventDefault();
  const { ctx, issueRequest, dropRequest } = event.detail;
  const label = (ctx.sourceElement.matches("button") && ctx.sourceElement.textContent.trim()) || ctx.request.submitter?.textContent.trim() || $("button", ctx.sourceElement)?.textContent.trim();
  agreed(ctx.confirm, label || "Do it").then((yes) => (yes ? issueRequest() : dropRequest()));
});

/** To the clipboard; on plain HTTP browsers have none, so a selected field is copied instead. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { class: "hidden" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast("Copied");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy || $("pre", button.parentElement)?.textContent || "";
  copy(text);
});
