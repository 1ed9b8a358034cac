// <sz-chart>: draws the data that stands in it as JSON (charts.py says in which form).
//
// What it draws goes into its .plot, which a renewal of the page leaves alone; the data is renewed, and drawn anew.
// Drag over a stretch of time, or mark it by Shift and the arrow keys, and the executions of that time open.
import { $, make } from "./dom.js";

const { uPlot } = window;
const DAY_S = 86400;
const WIDEST_BRUSH = 5; // Pixels: less is a click.
const charts = new Set();

// --- words, as the server has them (words.py) ---

const digits = (value) => Number(value.toPrecision(3)).toLocaleString("en", { useGrouping: false, maximumFractionDigits: 6 });

function duration(seconds) {
  if (seconds < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)} ms`;
  if (seconds < 60) return `${digits(seconds)} s`;
  if (seconds < 3600) return `${digits(seconds / 60)} min`;
  return `${digits(seconds / 3600)} h`;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en");

const second = (at) => new Date(at * 1000).toISOString().replace(/\.\d+Z$/, "Z");

/** The executions that were created from one moment to another; as overview_view.py writes it. */
export function executionsUrl(from, to) {
  return `/executions?q=${encodeURIComponent(`since:${second(from)} until:${second(to)}`).replaceAll("%3A", ":")}`;
}

class Chart extends HTMLElement {
  connectedCallback() {
    this.plot = $(".plot", this);
    if (!this.plot || !uPlot) return;
    charts.add(this);
    this.hidden_ = new Set();
    this.shape = "";
    this.brushing = false;
    this.mark = null; // Where a stretch that is marked by keys begins.
    this.legend = make("div", { class: "series" });
    this.told = make("span", { class: "hidden", role: "status" });
    this.stage = make("div", { tabindex: "0", role: "group", class: "stage",
      "aria-label": "Drawing: arrow keys go through it, Shift marks a stretch, Enter opens its executions" });
    this.plot.replaceChildren(this.legend, this.stage, this.told);
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("pointerdown", () => { this.brushing = true; });
    this.ended = () => { if (this.brushing) { this.brushing = false; if (this.late) this.renew(); } };
    window.addEventListener("pointerup", this.ended);
    this.renew();
    this.news = new MutationObserver(() => this.renew());
    this.news.observe(this, { childList: true });
    this.room = new ResizeObserver(() => this.u?.setSize(this.size()));
    this.room.observe(this.stage);
  }

  disconnectedCallback() {
    charts.delete(this);
    this.news?.disconnect();
    this.room?.disconnect();
    window.removeEventListener("pointerup", this.ended);
    this.u?.destroy();
    this.u = null;
  }

  size() {
    return { width: Math.max(120, this.stage.clientWidth), height: this.stage.clientHeight || 160 };
  }

  /** Draw what the data says now; while somebody marks a stretch, a little later. */
  renew() {
    const text = $('script[type="application/json"]', this)?.textContent;
    if (!text || text === this.text) return;
    this.late = this.brushing || this.mark !== null;
    if (this.late) return;
    this.text = text;
    this.data = JSON.parse(text);
    const shape = JSON.stringify([this.data.kind, this.data.unit, this.data.step, this.data.zone, this.data.lines.map((line) => line.label)]);
    if (this.u && shape === this.shape) {
      this.u.setData(this.table());
    } else {
      this.shape = shape;
      this.build();
    }
    this.dataset.drawn = "yes";
    this.say();
  }

  // --- the data as uPlot has it: times, then the series; those of a stack from the top down, each upon all below it ---

  get times() {
    const { from_s, step, lines } = this.data;
    return lines[0].values.map((_, place) => from_s + (place + 0.5) * step);
  }

  table() {
    const lines = this.data.lines;
    if (this.data.kind !== "stack") {
      // A logarithm has no zero.
      return [this.times, ...lines.map((line) => line.values.map((value) => (this.data.log && value !== null ? Math.max(value, 1e-6) : value)))];
    }
    const sums = new Array(lines[0].values.length).fill(0);
    const stacked = lines.map((line, at) => {
      if (!this.hidden_.has(at)) line.values.forEach((value, place) => { sums[place] += value ?? 0; });
      return [...sums];
    });
    return [this.times, ...stacked.reverse()];
  }

  line(series) {
    return this.data.kind === "stack" ? this.data.lines.length - series : series - 1;
  }

  colour(token, alpha = 1) {
    const probe = this.legend;
    probe.style.color = `var(--${token})`;
    const found = getComputedStyle(probe).color;
    probe.style.color = "";
    return alpha === 1 ? found : found.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
  }

  build() {
    this.u?.destroy();
    const { data } = this;
    const stack = data.kind === "stack";
    const series = data.lines.map((line) => ({
      label: line.label,
      width: stack ? 0 : 1.5,
      stroke: () => this.colour(line.colour),
      ...(stack
        ? { fill: () => this.colour(line.colour), paths: uPlot.paths.bars({ size: [0.86, 40] }), points: { show: false } }
        : { dash: line.dash ? [4, 3] : undefined, points: { show: () => false, size: 4, fill: () => this.colour(line.colour), filter: alone } }),
    }));
    const axis = { stroke: () => this.colour("muted"), grid: { stroke: () => this.colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const seconds = data.unit === "s";
    this.u = new uPlot({
      ...this.size(),
      padding: [6, 16, 0, 0],
      legend: { show: false },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), data.zone),
      scales: {
        x: { time: true, range: () => [this.data.from_s, this.data.from_s + this.data.lines[0].values.length * this.data.step] },
        y: data.log
          ? { distr: 3, range: (_, low, high) => (low == null ? [1e-3, 1] : [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high * 1.0001))]) }
          : { range: (_, low, high) => [0, Math.max(1, (high ?? 1) * 1.08)] },
      },
      series: [{}, ...(stack ? series.reverse() : series)],
      axes: [
        { ...axis, size: 24, gap: 4, space: 64, values: (_, splits) => this.marks(splits) },
        { ...axis, size: seconds ? 54 : 44, gap: 4, space: 26,
          ...(data.log ? { filter: decades, grid: { ...axis.grid, filter: decades } } : { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7] }),
          values: (_, splits) => splits.map((value) => (value == null ? "" : !seconds ? compact.format(value) : value < 1000 && value >= 60 ? `${value} s` : duration(value))) },
      ],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 6, show: !stack },
        sync: this.dataset.sync ? { key: this.dataset.sync, scales: ["x", null], setSeries: false, filters: { pub: (type) => type !== "mouseup" && type !== "mousedown" } } : undefined,
      },
      hooks: { setCursor: [() => this.say()], setSelect: [(u) => this.brushed(u)] },
    }, this.table(), this.stage);
    this.keys();
  }

  marks(splits) {
    const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: this.data.zone, ...options });
    const time = format({ hour: "2-digit", minute: "2-digit" });
    const day = format({ day: "numeric", month: "short" });
    return splits.map((at) => {
      const text = time.format(at * 1000);
      return text === "00:00" || splits[1] - splits[0] >= DAY_S ? day.format(at * 1000) : text;
    });
  }

  // --- the legend: what each line is, with its value under the cursor, or of all ---

  keys() {
    this.when = make("span", { class: "when" });
    this.labels = this.data.lines.map((line, at) => {
      const swatch = make("i"), value = make("b");
      swatch.style.background = `var(--${line.colour})`;
      const button = make("button", { type: "button", class: "quiet", "aria-pressed": String(!this.hidden_.has(at)), onclick: () => this.toggle(at, button) }, swatch, line.label, " ", value);
      return { button, value };
    });
    this.legend.replaceChildren(...this.labels.map(({ button }) => button), this.when);
  }

  toggle(at, button) {
    const hide = !this.hidden_.has(at);
    if (hide) this.hidden_.add(at); else this.hidden_.delete(at);
    button.setAttribute("aria-pressed", String(!hide));
    const series = this.data.kind === "stack" ? this.data.lines.length - at : at + 1;
    this.u.setSeries(series, { show: !hide });
    if (this.data.kind === "stack") this.u.setData(this.table());
  }

  said(value) {
    return value == null ? "–" : this.data.unit === "s" ? duration(value) : whole.format(value);
  }

  say() {
    if (!this.u || !this.labels) return;
    const at = this.u.cursor.idx, { lines, kind, from_s, step } = this.data;
    const inside = at != null && at < lines[0].values.length;
    this.labels.forEach(({ value }, place) => {
      const values = lines[place].values;
      const shown = inside ? values[at] : kind === "stack" ? values.reduce((sum, one) => sum + one, 0) : values.findLast((one) => one !== null);
      const text = this.said(shown);
      if (value.textContent !== text) value.textContent = text;
    });
    this.when.textContent = inside ? this.stretch(from_s + at * step, from_s + (at + 1) * step) : "";
  }

  stretch(from, to) {
    const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: this.data.zone, ...options });
    const days = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
    return `${format(days).format(from * 1000)} – ${format({ hour: "2-digit", minute: "2-digit", timeZoneName: "short" }).format(to * 1000)}`;
  }

  // --- marking a stretch of time ---

  /** Whole buckets from one place to another, both included. */
  bounds(low, high) {
    const { from_s, step, lines } = this.data;
    const most = lines[0].values.length - 1;
    const held = (place) => Math.min(most, Math.max(0, place));
    return [from_s + held(low) * step, from_s + (held(high) + 1) * step];
  }

  brushed(u) {
    const { left, width } = u.select;
    if (width < WIDEST_BRUSH || this.mark !== null) return;
    const place = (pixels) => Math.floor((u.posToVal(pixels, "x") - this.data.from_s) / this.data.step);
    const [from, to] = this.bounds(place(left), place(left + width - 1));
    const { event } = u.cursor;
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.open(from, to, Boolean(event?.ctrlKey || event?.metaKey));
  }

  open(from, to, aside = false) {
    const href = executionsUrl(from, to);
    if (aside) window.open(href, "_blank", "noopener"); else location.assign(href);
  }

  key(event) {
    const { u } = this, most = this.data.lines[0].values.length - 1;
    const now = u.cursor.idx ?? most + 1;
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      const next = Math.min(most, Math.max(0, now + by));
      this.mark = event.shiftKey ? (this.mark ?? Math.min(now, most)) : null;
      u.setCursor({ left: u.valToPos(this.times[next], "x"), top: 10 }, true, true);
      this.show(next);
      this.told.textContent = `${this.when.textContent}: ${this.labels.map(({ value }, at) => `${this.data.lines[at].label} ${value.textContent}`).join(", ")}`;
    } else if (event.key === "Enter" && u.cursor.idx != null) {
      event.preventDefault();
      const low = this.mark ?? u.cursor.idx;
      this.open(...this.bounds(Math.min(low, u.cursor.idx), Math.max(low, u.cursor.idx)));
    } else if (event.key === "Escape") {
      this.mark = null;
      this.show(0);
      u.setCursor({ left: -10, top: -10 }, true, true);
      if (this.late) this.renew();
    }
  }

  /** The stretch from the mark to a place; none without a mark. */
  show(place) {
    const { u } = this;
    if (this.mark === null) { u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false); return; }
    const [from, to] = this.bounds(Math.min(this.mark, place), Math.max(this.mark, place));
    const left = u.valToPos(from, "x");
    u.setSelect({ left, width: u.valToPos(to, "x") - left, top: 0, height: u.over.clientHeight }, false);
  }
}

/** Of a logarithmic axis: the powers of ten; of a short one, two and five of each as well. */
function decades(u, splits) {
  const { min, max } = u.scales.y, few = max / min < 101;
  return splits.map((value) => {
    const first = Math.round(value / 10 ** Math.floor(Math.log10(value * 1.0001)));
    return first === 1 || (few && (first === 5 || (first === 2 && max / min < 11))) ? value : null;
  });
}

/** Values without a neighbour, of which a line shows nothing: they get a point. */
function alone(u, series) {
  const values = u.data[series];
  const found = values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
  return found.length ? found : null;
}

customElements.define("sz-chart", Chart);

// Other colours: of the page's switch, or the system's. (Bars keep their colour with their shape: that is made anew, too.)
const repaint = () => charts.forEach((chart) => chart.u?.redraw(true, true));
new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
