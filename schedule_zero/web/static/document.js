// Documents that are typed: to the line that is wrong, and a file's text into a field.
import { $, toast } from "./dom.js";

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-line]");
  if (!link) return;
  event.preventDefault();
  const field = $(link.getAttribute("href")), lines = field.value.split("\n"), line = Number(link.dataset.line) - 1;
  const start = lines.slice(0, line).reduce((sum, text) => sum + text.length + 1, 0);
  field.focus();
  field.setSelectionRange(start, start + (lines[line]?.length ?? 0));
  field.scrollTop = Math.max(0, line - 4) * (field.scrollHeight / Math.max(1, lines.length));
});

document.addEventListener("change", async (event) => {
  const file = event.target.closest("input[data-fills]")?.files[0];
  if (!file) return;
  if (file.size > 1 << 20) return toast(`${file.name} has ${file.size.toLocaleString("en")} bytes; at most 1 MiB is taken.`, { problem: true });
  document.getElementById(event.target.dataset.fills).value = await file.text();
});
