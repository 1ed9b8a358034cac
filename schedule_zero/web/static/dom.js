// Small helpers. Text always goes in as text: what came from a job never becomes markup.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Make an element: `make("button", {class: "quiet", onclick: f}, "text", child)`. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export const xsrf = () => $('meta[name="xsrf"]')?.content ?? "";

export const isTyping = (element) => Boolean(element?.closest("input, textarea, select, [contenteditable]"));

/** Keep a preference where the server sees it. */
export function setCookie(name, value) {
  document.cookie = `${name}=${encodeURIComponent(value)}; Path=/; Max-Age=31536000; SameSite=Lax`;
}

/** Tell what happened, in the corner. `undo`: the form that takes it back. */
export function toast(text, { problem = false, undo = null } = {}) {
  const corner = $("#toasts");
  const same = [...corner.children].find((one) => one.dataset.text === text);
  if (same) same.remove();
  const box = make("div", { class: problem ? "toast problem" : "toast" }, make("span", { class: "grow" }, text));
  box.dataset.text = text;
  const close = () => box.remove();
  if (undo) {
    box.append(make("button", { type: "button", onclick: () => { close(); post(undo); } }, "Undo"));
  }
  box.append(make("button", { type: "button", class: "quiet", onclick: close, "aria-label": "Close" }, "×"));
  corner.append(box);
  // Long enough to be read, and not while the pointer or the focus is on it.
  const end = () => (box.matches(":hover, :focus-within") ? setTimeout(end, 2000) : close());
  setTimeout(end, problem ? 20000 : 8000);
}

/** Send a form without fields, as htmx would. */
export function post(path, values = {}) {
  return htmx.ajax("POST", path, { source: document.body, swap: "none", values, headers: { "X-Xsrf-Token": xsrf() } });
}
