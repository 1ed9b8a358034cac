// Counts relative times on, in the server's words (words.py). Its clock is the measure, not the browser's.
import { $$ } from "./dom.js";

// How far the browser's clock is off: the page was made at about the moment at which it came.
const served = performance.getEntriesByType("navigation")[0]?.responseStart ?? 0;
const made = Number(document.documentElement.dataset.now);
const offset = made ? made - (performance.timeOrigin + served) : 0;

function short(seconds) {
  const whole = Math.floor(seconds + 0.5);
  const minutes = Math.floor(whole / 60), hours = Math.floor(whole / 3600), days = Math.floor(whole / 86400);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${minutes} min`;
  if (whole < 86400) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

function words(at) {
  const seconds = (at - (Date.now() + offset)) / 1000;
  if (Math.abs(seconds) < 0.5) return "now";
  return seconds > 0 ? `in ${short(seconds)}` : `${short(-seconds)} ago`;
}

setInterval(() => {
  if (document.hidden) return;
  for (const time of $$("time[data-relative]")) {
    const text = words(Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}, 1000);
