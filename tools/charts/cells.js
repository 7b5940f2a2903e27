"use strict";
/* One chart with what it reads at a moment. What it shows is told by the tables in charts.js; dygraphs draws it.
   Text from the stream gets into the page as text only: textContent, never markup. */

const theme = new Map(); /* emptied when the colours change */

function css(name) {
  if (!theme.has(name)) theme.set(name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
  return theme.get(name);
}

function element(parent, tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

/* ---- numbers as text: value -> "76.7M" ---- */

function shortNumber(v, step, units) {
  let at = 0;
  while (Math.abs(v) >= step * 0.9995 && at < units.length - 1) {
    v /= step;
    at++;
  }
  const digits = v === 0 || Math.abs(v) >= 100 || (at === 0 && Number.isInteger(v)) ? 0 : Math.abs(v) >= 10 ? 1 : 2;
  return Number(v.toFixed(digits)) + units[at];
}

/* Milliseconds in the unit that fits. */
function scaleOf(v, blank) {
  const [by, unit] = v < 0.001 ? [1e6, "ns"] : v < 1 ? [1e3, "µs"] : v < 1000 ? [1, "ms"] : [1e-3, "s"];
  return shortNumber(v * by, 1e9, [""]) + blank + unit;
}

const FORMAT = {
  bytes: (v) => shortNumber(v, 1024, ["", "K", "M", "G", "T"]),
  rate: (v) => shortNumber(v, 1000, ["", "k", "M", "G"]) + "/s",
  ms: (v) => scaleOf(v, " "),
  percent: (v) => Number(v.toFixed(v < 9.95 ? 1 : 0)) + " %",
};
const AXIS_FORMAT = {
  bytes: FORMAT.bytes,
  rate: (v) => shortNumber(v, 1000, ["", "k", "M", "G"]),
  ms: (v) => scaleOf(v, ""),
  percent: (v) => Math.round(v) + "%",
};

/* ---- axes: from 0 to a round number, or whole decades. dygraphs neither labels nor fills at the very top of its range,
   which therefore is a little more. ---- */

const TOP_MARGIN = 1.02;

function roundUp(v, unit) {
  const base = unit === "bytes" ? 2 : 10;
  const power = base ** Math.floor(Math.log(v) / Math.log(base));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((m) => m * power).find((m) => m >= v * 0.9999) || v;
}

function linearRange(max, unit) {
  const least = { bytes: 1 << 20, rate: 10, ms: 0.1, percent: 10 }[unit];
  return [0, roundUp(Math.max(max * 1.04, least), unit)];
}

function logRange(min, max) {
  const low = Math.floor(Math.log10(Math.max(min, 1e-4)) + 1e-9);
  return [10 ** low, 10 ** Math.max(low + 1, Math.ceil(Math.log10(max) - 1e-9))];
}

/* low: the lowest label would stand in the way of a time */
function ticksOf(range, unit, log, low) {
  const label = (v) => (low && v === range[0] ? "" : AXIS_FORMAT[unit](v));
  if (!log) return [0, range[1] / 2, range[1]].map((v) => ({ v, label: label(v) }));
  const ticks = [];
  const decades = Math.round(Math.log10(range[1] / range[0]));
  const step = Math.ceil(decades / 3);
  for (let i = 0; i <= decades; i += step) ticks.push({ v: range[0] * 10 ** i, label: label(range[0] * 10 ** i) });
  return ticks;
}

/* ---- the cell ---- */

/* What is read stands in the page, not in dygraphs' legend, which would need styles from within markup. */
if (typeof Dygraph !== "undefined") Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);

class Cell {
  /* kind: {id, unit, stacked, log, figures: [{id, label, colour, unit, fill, dash, right}]}; on: {hover(x, row), leave(),
     underlay(canvas, area, graph)} */
  constructor(parent, kind, title, on) {
    this.kind = kind;
    this.on = on;
    this.box = element(parent, "div", "cell " + kind.id);
    this.box.dataset.cell = kind.id;
    if (title) element(this.box, "div", "title", title);
    this.readout = element(this.box, "div", "readout");
    const plot = element(this.box, "div", "plot");
    this.chart = element(plot, "div", "chart");
    this.hair = element(plot, "div", "hair");
    this.keys = new Map();
    this.graph = null;
    this.shown = "";
  }

  /* The figures there are may differ from time to time: a tier without a page is not worth a key. */
  drawKeys(figures) {
    this.readout.replaceChildren();
    this.keys.clear();
    for (const f of figures) {
      const key = element(this.readout, "span", "key");
      key.dataset.figure = f.id;
      const mark = element(key, "i", f.fill || this.kind.stacked ? "" : "thin");
      mark.dataset.colour = f.colour;
      mark.style.background = css(f.colour);
      key.append(f.label);
      this.keys.set(f.id, element(key, "output"));
    }
  }

  read(row) {
    for (const f of this.figures || []) {
      const v = row < 0 ? null : f.values[row];
      const out = this.keys.get(f.id);
      out.textContent = v === null || v === undefined ? "–" : FORMAT[f.unit || this.kind.unit](v);
      if (v === null || v === undefined) delete out.dataset.value;
      else out.dataset.value = v;
    }
  }

  /* figures: those of the kind that there are, each with its values; top: of the left axis, or undefined */
  draw(times, figures, window, top, withTimes) {
    const shown = figures.map((f) => f.id).join() + withTimes + css("ink");
    this.figures = figures;
    if (shown !== this.shown) {
      this.drawKeys(figures);
      if (this.graph) this.graph.destroy();
      this.graph = null;
      this.shown = shown;
    }
    if (!figures.length || !times.length) return;
    const inGraph = this.kind.stacked ? [...figures].reverse() : figures; /* dygraphs puts the last at the bottom */
    const rows = times.map((t, i) => [t].concat(inGraph.map((f) => (f.values[i] === undefined ? null : f.values[i]))));
    const options = this.changing(figures, window, top, withTimes);
    if (this.graph) this.graph.updateOptions({ file: rows, ...options });
    else this.create(rows, inGraph, options, withTimes);
  }

  extent(figures) {
    let min = Infinity, max = 0;
    for (const f of figures)
      for (const v of f.values)
        if (v !== null && v !== undefined && (!this.kind.log || v > 0)) {
          min = Math.min(min, v);
          max = Math.max(max, v);
        }
    return [min, max];
  }

  changing(figures, window, top, withTimes) {
    const unit = this.kind.unit;
    const [min, max] = this.extent(figures.filter((f) => !f.right));
    const range = this.kind.log ? logRange(Math.min(min, 1), Math.max(max, 1)) : top ? [0, top] : linearRange(max, unit);
    const axes = { y: { valueRange: [range[0], range[1] * TOP_MARGIN], ticker: () => ticksOf(range, unit, this.kind.log, withTimes) } };
    if (figures.some((f) => f.right)) axes.y2 = { valueRange: [0, 100 * TOP_MARGIN], ticker: () => ticksOf([0, 100], "percent") };
    return { dateWindow: window, axes };
  }

  create(rows, figures, options, withTimes) {
    const series = {};
    for (const f of figures)
      series[f.label] = {
        color: css(f.colour), fillGraph: Boolean(f.fill || this.kind.stacked), strokePattern: f.dash ? [4, 3] : null,
        axis: f.right ? "y2" : "y", strokeWidth: this.kind.stacked ? 0.5 : 1.4,
      };
    options.axes.x = { drawAxis: withTimes, drawGrid: true, axisLabelWidth: 52, pixelsPerLabel: 56 };
    Object.assign(options.axes.y, { axisLabelWidth: 36, logscale: Boolean(this.kind.log), drawGrid: true });
    /* The right axis takes no room, so that all charts have the same times above each other: it is 0 to 100 %. */
    if (options.axes.y2) Object.assign(options.axes.y2, { drawAxis: false, drawGrid: false });
    this.graph = new Dygraph(this.chart, rows, {
      ...options, series, labels: ["time", ...figures.map((f) => f.label)], legend: "never", showLabelsOnHighlight: false,
      stackedGraph: Boolean(this.kind.stacked), stackedGraphNaNFill: "none", fillAlpha: this.kind.stacked ? 0.85 : 0.25,
      gridLineColor: css("grid"), gridLineWidth: 1, axisLineColor: css("line"), axisLineWidth: 1, axisTickSize: 2,
      xAxisHeight: withTimes ? 16 : 2, highlightCircleSize: 2, interactionModel: {}, rightGap: 4,
      axisLabelFontSize: 10, underlayCallback: this.on.underlay,
      highlightCallback: (event, x, points, row) => this.on.hover(x, row),
      unhighlightCallback: () => this.on.leave(),
    });
  }

  /* x: milliseconds, or null: nothing is pointed at */
  point(x) {
    const at = x === null || !this.graph ? NaN : this.graph.toDomXCoord(x);
    const area = this.graph && this.graph.getArea();
    const inside = area && at >= area.x - 1 && at <= area.x + area.w + 1;
    this.hair.style.display = inside ? "block" : "none";
    if (inside) this.hair.style.transform = `translateX(${Math.round(at)}px)`;
  }

  close() {
    if (this.graph) this.graph.destroy();
    this.box.remove();
  }
}
