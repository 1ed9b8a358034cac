// Switches whose choice the server has to know: in which zone times are shown, light or dark, the menu of small screens.
import { $, $$, setCookie } from "./dom.js";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.includes(`sz_zone=${encodeURIComponent(zone)}`)) setCookie("sz_zone", zone);

for (const select of $$("select[data-cookie]")) {
  select.addEventListener("change", () => {
    setCookie(select.dataset.cookie, select.value);
    if (select.id === "theme") document.documentElement.dataset.theme = select.value;
    else location.reload();
  });
}

const more = $("#nav-more");
more?.addEventListener("click", () => {
  const open = more.closest("nav").classList.toggle("open");
  more.setAttribute("aria-expanded", String(open));
});

// A menu closes when one looks elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of $$("details.menu[open]")) menu.open = false;
});
