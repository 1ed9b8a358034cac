// Live parts: an element with data-live="topic topic" is asked for again when something of these topics has changed.
//
// Nothing moves under the hand: a part that is hovered, scrolled away from, selected in or typed in keeps what it shows
// and gets a pill that says how much is new. Pause stops every part; a hidden tab has no stream at all.
import { $, $$, isTyping, make } from "./dom.js";

const GAP_MS = 1000;
const bar = $("#live");
const parts = new WeakMap(); // element → {due, timer, news}
let paused = sessionStorage.getItem("sz-paused") === "yes";
let lost = false;

const state = (name, words) => {
  if (!bar) return;
  bar.dataset.state = name;
  const text = $(".live-words", bar);
  if (text.textContent !== words) text.textContent = words;
};

const shown = () => (lost ? state("lost", "reconnecting …") : paused ? state("paused", "paused") : state("live", "live"));

const of = (part) => {
  if (!parts.has(part)) parts.set(part, { last: 0, timer: 0, news: 0 });
  return parts.get(part);
};

/** Whether somebody is at work in this part. */
function busy(part) {
  const focus = document.activeElement;
  if (focus && part.contains(focus) && (isTyping(focus) || focus.closest("dialog, details[open]"))) return true;
  if ($("input[type=checkbox]:checked[data-pick]", part) || $("details[open]", part)) return true;
  const selection = getSelection();
  if (selection && !selection.isCollapsed && selection.containsNode(part, true)) return true;
  if (!("hold" in part.dataset)) return false;
  return part.matches(":hover") || part.getBoundingClientRect().top < -40;
}

function refresh(part) {
  const one = of(part);
  clearTimeout(one.timer);
  one.timer = 0;
  one.news = 0;
  one.last = performance.now();
  part.previousElementSibling?.classList.contains("pill") && part.previousElementSibling.remove();
  htmx.trigger(part, "sz:refresh");
}

function pill(part, count) {
  const one = of(part);
  one.news += count;
  let button = part.previousElementSibling;
  if (!button?.classList.contains("pill")) {
    button = make("button", { type: "button", class: "pill", onclick: () => refresh(part) });
    part.before(button);
  }
  button.textContent = one.news ? `${one.news} new – show` : "Something is new – show";
}

/** Something changed: ask for this part, at most once a second, unless somebody is at work in it. */
function changed(part, count) {
  const one = of(part);
  if (paused || busy(part)) return pill(part, count);
  if (one.timer) return;
  const wait = Math.max(0, one.last + GAP_MS - performance.now());
  one.timer = setTimeout(() => {
    one.timer = 0;
    if (!part.isConnected) return;
    if (paused || busy(part)) pill(part, count);
    else refresh(part);
  }, wait);
}

function hint(topics) {
  for (const part of $$("[data-live]")) {
    const wanted = part.dataset.live.split(" ").filter((topic) => topic in topics);
    if (wanted.length) changed(part, wanted.reduce((sum, topic) => sum + topics[topic], 0));
  }
}

document.addEventListener("sz-hint", (event) => hint(JSON.parse(event.detail.data)));
document.addEventListener("sz-signed-out", () => location.reload());
document.addEventListener("htmx:sse:after:connection", () => { lost = false; shown(); });
for (const name of ["htmx:sse:error", "htmx:sse:close"]) {
  document.addEventListener(name, (event) => {
    if (document.hidden) return;
    // A session that is over is refused: the page sends one to sign in.
    if (event.detail?.status === 401) location.reload();
    lost = true;
    shown();
  });
}
// The stream ends (the server stops) before it is tried again: that is said at once.
document.addEventListener("htmx:sse:before:connection", (event) => {
  if (event.detail.connection.attempt > 0 && !document.hidden) { lost = true; shown(); }
});

// Parts that something beside events changes (a job's progress) are asked for now and then, while they are looked at.
setInterval(() => {
  if (paused || lost || document.hidden) return;
  for (const part of $$("[data-live-every]")) {
    const every = Number(part.dataset.liveEvery) * 1000;
    if (performance.now() - of(part).last >= every && !busy(part)) refresh(part);
  }
}, 500);

const pause = $("#pause-live");
const showPause = () => {
  if (!pause) return;
  pause.setAttribute("aria-pressed", String(paused));
  $("span", pause).textContent = paused ? "Resume live" : "Pause live";
};
pause?.addEventListener("click", () => {
  paused = !paused;
  sessionStorage.setItem("sz-paused", paused ? "yes" : "no");
  showPause();
  shown();
  if (!paused) for (const part of $$("[data-live]")) if (of(part).news || part.previousElementSibling?.classList.contains("pill")) refresh(part);
});
showPause();
if (bar?.hasAttribute("hx-sse:connect")) state(paused ? "paused" : "connecting", paused ? "paused" : "connecting");
