// What every page needs. Modules of single pages are loaded by those pages.
import "./live.js";
import "./forms.js";
import "./switches.js";
import "./times.js";
import "./keys.js";
import "./palette.js";
