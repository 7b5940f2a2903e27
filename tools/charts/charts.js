"use strict";
/* The page: asks the bridge for what is new, keeps the span that is shown, and draws a row of cells for the host and each VM, so
   that cause and effect stand beside each other over the same time. */

const SPANS = [["5 min", 300], ["15 min", 900], ["1 h", 3600], ["6 h", 21600]];
const POINTS = 600;
const EVENTS = 1000;
const POLL_MS = 1000;

/* What a page of a guest is, from below to above in the stack. parts: the states of the metrics. */
const PAGES = [
  { id: "own", label: "own", colour: "blue", parts: ["private", "pinned"] },
  { id: "shared", label: "shared", colour: "sky", parts: ["shared"] },
  { id: "zero", label: "zero", colour: "green", parts: ["zero"] },
  { id: "compressed", label: "zipped", colour: "pink", parts: ["compressed"] },
  { id: "swapped", label: "swapped", colour: "red", parts: ["swapped", "swapping-out", "swapping-in", "clean"] },
  { id: "ballooned", label: "balloon", colour: "orange", parts: ["ballooned"] },
  { id: "absent", label: "untouched", colour: "empty", parts: ["absent"] },
];
const sum = (names) => (o) => names.some((n) => o[n]) ? o.times.map((_, i) =>
  names.reduce((all, n) => (o[n] && o[n][i] !== null ? (all === null ? 0 : all) + o[n][i] : all), null)) : null;
const scaled = (name, by) => (o) => o[name] ? o[name].map((v) => (v === null ? null : v * by)) : null;
const plain = (name) => (o) => o[name] || null;
const positive = (values) => values && values.map((v) => (v > 0 ? v : null)); /* of a latency 0 says that there was nothing */

const MEMORY = { id: "memory", unit: "bytes", stacked: true,
  figures: PAGES.map((p) => ({ ...p, of: sum(p.parts.map((s) => "pages." + s)), always: p.id === "own" })) };
const SWAP = { id: "swap", unit: "rate", figures: [
  { id: "swap-in", label: "in", colour: "red", of: plain("swap-in"), always: true },
  { id: "swap-out", label: "out", colour: "blue", of: plain("swap-out"), always: true },
  { id: "zip-in", label: "unzip", colour: "pink", of: plain("zip-out") },
  { id: "zip-out", label: "zip", colour: "pink", dash: true, of: plain("zip-in") },
  { id: "refaults", label: "refault", colour: "grey", of: plain("refaults") },
] };
const VM_KINDS = [
  MEMORY,
  { id: "balloon", unit: "bytes", figures: [
    { id: "balloon", label: "size", colour: "orange", fill: true, of: plain("balloon"), always: true },
    { id: "balloon-target", label: "target", colour: "hair", dash: true, of: plain("balloon-target"), always: true },
  ] },
  SWAP,
  { id: "latency", unit: "ms", log: true, figures: [
    { id: "disk-latency", label: "disk", colour: "red", of: (o) => positive(scaled("disk-latency", 1000)(o)), always: true },
    { id: "latency", label: "operation", colour: "green", of: (o) => positive(scaled("latency", 1000)(o)), always: true },
  ] },
  { id: "workload", unit: "rate", figures: [
    { id: "operations", label: "ops", colour: "green", fill: true, of: plain("operations"), always: true },
    { id: "hit", label: "hits", colour: "blue", unit: "percent", right: true, of: scaled("hit", 100) },
  ] },
];
const HOST_KINDS = [
  MEMORY,
  { id: "free", unit: "bytes", figures: [
    { id: "free", label: "free", colour: "blue", fill: true, of: plain("ram.free"), always: true },
    { id: "min-free", label: "min-free", colour: "hair", dash: true, of: plain("min-free"), always: true },
  ] },
  SWAP,
  { id: "latency", unit: "ms", log: true, figures: [] },
  { id: "waiting", unit: "percent", figures: [
    { id: "waiting", label: "VMs wait for memory", colour: "red", fill: true, of: plain("waiting"), always: true },
  ] },
];
const TITLES = ["Memory by state", "Balloon", "Swap, pages a second", "Latency", "Workload"];
const HOST_TITLES = ["Memory of all VMs by state", "Free memory of the host", "Swap, pages a second", "Latency of the disks", "Time lost"];
const DISK_COLOURS = ["red", "blue", "green", "pink", "orange"];

/* ---- what is known ---- */

const data = { instance: null, stride: 0, first: 0, time: [], series: new Map(), events: [], alerts: [], state: null };
let span = SPANS[0][1];
let hover = null; /* milliseconds */

const flatten = function* (answer) {
  for (const [figure, values] of Object.entries(answer.host)) yield ["host", "", figure, values];
  for (const scope of ["disk", "vm"])
    for (const [name, figures] of Object.entries(answer[scope]))
      for (const [figure, values] of Object.entries(figures)) yield [scope, name, figure, values];
};

/* Puts an answer's buckets behind those before them, unless it is everything. False: it is from another bridge than before, and
   everything is needed. */
function merge(answer, everything) {
  const fits = answer.instance === data.instance && answer.stride === data.stride && answer.first >= data.first &&
    answer.first <= data.first + data.time.length;
  if (!everything && answer.instance !== data.instance) return false;
  if (!fits) Object.assign(data, { first: answer.first, time: [], series: new Map() });
  const keep = answer.first - data.first;
  const touched = new Set();
  for (const [scope, name, figure, values] of flatten(answer)) {
    const key = JSON.stringify([scope, name, figure]);
    const before = (data.series.get(key) || { values: [] }).values.slice(0, keep);
    while (before.length < keep) before.push(null);
    data.series.set(key, { scope, name, figure, values: before.concat(values) });
    touched.add(key);
  }
  data.time = data.time.slice(0, keep).concat(answer.time);
  for (const [key, one] of data.series)
    if (!touched.has(key)) {
      one.values.length = Math.min(one.values.length, keep);
      while (one.values.length < data.time.length) one.values.push(null);
    }
  data.events = (everything ? [] : data.events).concat(answer.events).slice(-EVENTS);
  for (const name of ["instance", "stride", "streams", "alerts", "state", "age", "now", "line", "garbled", "interval"])
    data[name] = answer[name];
  trim();
  return true;
}

function trim() {
  const start = data.time[data.time.length - 1] - span;
  let drop = data.time.findIndex((t) => t >= start);
  if (drop <= 0) return;
  data.time.splice(0, drop);
  data.first += drop;
  for (const [key, one] of data.series) {
    one.values.splice(0, drop);
    if (one.values.every((v) => v === null)) data.series.delete(key);
  }
}

/* Objects of a scope: name -> {figure: values, times} */
function objects(scope) {
  const found = new Map();
  for (const one of data.series.values()) {
    if (one.scope !== scope) continue;
    if (!found.has(one.name)) found.set(one.name, Object.assign(Object.create(null), { times: data.time }));
    found.get(one.name)[one.figure] = one.values;
  }
  return found;
}

/* The end of an alert is none. */
const levelOf = (e) => (/^\S+ cleared: /.test(e.text) ? "info" : e.level);

/* ---- rows ---- */

const rows = new Map(); /* "host", or "vm NAME" -> {box, name, cells, kinds} */
const visible = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const e of entries) {
    if (e.isIntersecting) visible.add(e.target);
    else visible.delete(e.target);
  }
  drawRows();
});

function underlay(owner) {
  return (canvas, area, graph) => {
    for (const e of data.events) {
      if (e.object !== owner && !(owner === "host" && e.object === "bridge")) continue;
      const x = Math.round(graph.toDomXCoord(e.time * 1000)) + 0.5;
      if (x < area.x || x > area.x + area.w) continue;
      canvas.save();
      canvas.strokeStyle = css({ info: "grey", warning: "orange", critical: "critical-back" }[levelOf(e)]);
      canvas.lineWidth = levelOf(e) === "info" ? 1 : 1.5;
      canvas.setLineDash(levelOf(e) === "critical" ? [] : levelOf(e) === "warning" ? [5, 2] : [1, 2]);
      canvas.beginPath();
      canvas.moveTo(x, area.y);
      canvas.lineTo(x, area.y + area.h);
      canvas.stroke();
      canvas.restore();
    }
  };
}

function makeRow(key, owner, kinds, titles) {
  const box = element(document.getElementById("rows"), "div", "row" + (key === "host" ? " host titled" : ""));
  box.dataset.row = owner;
  const row = { box, kinds, owner, name: element(box, "div", "name") };
  const on = { hover: pointAt, leave: () => pointAt(null), underlay: underlay(owner) };
  row.cells = kinds.map((kind, i) => new Cell(box, kind, titles[i], on));
  rows.set(key, row);
  watcher.observe(box);
  return row;
}

function dropRow(key) {
  const row = rows.get(key);
  watcher.unobserve(row.box);
  visible.delete(row.box);
  for (const cell of row.cells) cell.close();
  row.box.remove();
  rows.delete(key);
}

/* The figures of a kind that say something of this object. */
function figuresOf(kind, object, disks) {
  if (kind.id === "latency" && disks)
    return [...disks].map(([name, d], i) => ({
      id: name, label: name, colour: DISK_COLOURS[i % DISK_COLOURS.length], values: positive(scaled("disk-latency", 1000)(d)) || [] }))
      .filter((f) => f.values.some((v) => v !== null));
  const found = [];
  for (const f of kind.figures) {
    const values = f.of(object);
    if (values ? f.always || values.some((v) => v) : f.always) found.push({ ...f, values: values || data.time.map(() => null) });
  }
  return found;
}

const last = (values) => (values && values.length ? values[values.length - 1] : null);

function nameHost(row, host, vms) {
  row.name.replaceChildren();
  element(row.name, "strong", "", "host");
  if (last(host.total)) element(row.name, "div", "", FORMAT.bytes(last(host.total)) + " RAM");
  element(row.name, "div", "", [...vms.values()].filter((v) => last(v.up) === 1).length + " of " + vms.size + " VMs run");
  if (last(host["swap-size"])) element(row.name, "div", "", "swap " + FORMAT.bytes(last(host["swap-used"]) || 0) + " of " + FORMAT.bytes(last(host["swap-size"])));
}

function nameVm(row, name, vm, at) {
  const value = (figure) => (vm[figure] && at >= 0 ? vm[figure][at] : null);
  row.name.replaceChildren();
  element(row.name, "strong", "", name).title = name;
  const gone = value("size") === null;
  row.box.classList.toggle("gone", gone && at === data.time.length - 1);
  element(row.name, "div", "", gone ? "has no memory" : FORMAT.bytes(value("size")) + (value("up") === 1 ? "" : ", does not run"));
  if (!gone) element(row.name, "div", "", "holds " + FORMAT.bytes(value("consumed") || 0)).title = "RAM it is charged for";
  if (value("waiting") !== null) element(row.name, "div", "", "waits " + FORMAT.percent(value("waiting") * 100)).title = "share of time it waits for memory";
  for (const a of data.alerts.filter((one) => one.object === name)) element(row.name, "span", "alert " + a.level, a.alert);
}

function drawRow(row, object, window, disks, isLast) {
  row.cells.forEach((cell, i) => {
    const figures = figuresOf(row.kinds[i], object, disks);
    const top = row.kinds[i].stacked ? stackTop(figures) : row.kinds[i].id === "balloon" ? last(object.size) : undefined;
    cell.draw(data.dates, figures, window, top, isLast);
  });
}

function stackTop(figures) {
  let top = 0;
  data.time.forEach((_, i) => { top = Math.max(top, figures.reduce((all, f) => all + (f.values[i] || 0), 0)); });
  return top || undefined;
}

function drawRows() {
  const end = last(data.time);
  if (end === null || typeof Dygraph === "undefined") return;
  const vms = objects("vm"), host = objects("host").get("") || Object.assign(Object.create(null), { times: data.time });
  const disks = objects("disk");
  host.waiting = data.time.map((_, i) => [...vms.values()].reduce((all, v) => all + 100 * ((v.waiting && v.waiting[i]) || 0), 0));
  for (const [name, vm] of [...vms]) if (!vm.size || vm.size.every((v) => v === null)) vms.delete(name);
  data.dates = data.time.map((t) => new Date(t * 1000));
  data.view = { vms, host };
  for (const key of [...rows.keys()]) if (key !== "host" && !vms.has(key.slice(3))) dropRow(key);
  if (!rows.has("host")) makeRow("host", "host", HOST_KINDS, HOST_TITLES);
  let index = 0;
  for (const name of vms.keys()) if (!rows.has("vm " + name)) makeRow("vm " + name, name, VM_KINDS, TITLES);
  const window = [Math.max(end - span, Math.min(data.time[0], end - 60)) * 1000, end * 1000];
  if (visible.has(rows.get("host").box)) drawRow(rows.get("host"), host, window, disks, true);
  for (const [name, vm] of vms) {
    const row = rows.get("vm " + name);
    index++;
    row.box.classList.toggle("titled", index === 1);
    if (visible.has(row.box)) drawRow(row, vm, window, null, index === vms.size);
  }
  readAll();
}

/* ---- reading ---- */

function rowAt(x) {
  if (x === null) return data.time.length - 1;
  const t = x / 1000;
  let best = -1;
  data.time.forEach((one, i) => { if (best < 0 || Math.abs(one - t) < Math.abs(data.time[best] - t)) best = i; });
  return best;
}

function pointAt(x) {
  hover = x;
  readAll();
}

function readAll() {
  if (!data.view) return;
  const at = rowAt(hover), { vms, host } = data.view;
  for (const [key, row] of rows) {
    if (key === "host") nameHost(row, host, vms);
    else if (vms.has(key.slice(3))) nameVm(row, key.slice(3), vms.get(key.slice(3)), at);
    if (!visible.has(row.box)) continue;
    for (const cell of row.cells) {
      cell.read(at);
      cell.point(hover === null ? null : data.time[at] * 1000);
    }
  }
  drawMoment(at);
}

const clockText = (t) => new Date(t * 1000).toLocaleTimeString([], { hour12: false });

function drawMoment(at) {
  const box = document.getElementById("moment");
  box.replaceChildren();
  for (const li of document.querySelectorAll("#events li.near")) li.classList.remove("near");
  if (hover === null) {
    box.append("Point at a chart to read every chart at that time. Marks are events: dotted information, dashed warnings, solid critical.");
    return;
  }
  element(box, "b", "", clockText(data.time[at]));
  const near = data.events.filter((e) => Math.abs(e.time - data.time[at]) <= Math.max(span / 150, data.interval || 0));
  for (const e of near) {
    box.append("  ·  " + e.object + ": " + e.text);
    const li = document.getElementById("event-" + e.number);
    if (li) li.classList.add("near");
  }
}

/* ---- the top, and events ---- */

function drawTop(unreachable) {
  const stream = document.getElementById("stream"), state = document.getElementById("state");
  const late = data.age === null || data.age > Math.max(5, 4 * (data.interval || 5));
  const ago = data.age === null ? "" : data.age < 90 ? Math.round(data.age) + " s" : Math.round(data.age / 60) + " min";
  stream.className = "pill " + (unreachable ? "critical" : late ? "warning" : "good");
  stream.textContent = unreachable ? "the bridge does not answer" : data.age === null ? "no stream yet" : late ? "no stream for " + ago : "live";
  stream.title = (data.line ? "line: " + data.line + "; " : "") + data.garbled + " garbled streams dropped";
  if (data.line && late && !unreachable) stream.textContent += ": " + data.line;
  state.textContent = data.state ? "memory " + data.state : "";
  state.className = "pill " + ({ high: "good", clear: "good", soft: "warning", hard: "critical", low: "critical" }[data.state] || "");
  const host = data.view ? data.view.host : {};
  const summary = document.getElementById("summary");
  summary.replaceChildren();
  const say = (label, text) => { const s = element(summary, "span", "", label + " "); element(s, "b", "", text); };
  if (last(host["ram.free"] || null) !== null) say("free", FORMAT.bytes(last(host["ram.free"])) + " of " + FORMAT.bytes(last(host.total)));
  if (last(host.overcommit || null) !== null) say("overcommit", String(last(host.overcommit)));
  if (last(host.saved || null) !== null) say("saved by sharing", FORMAT.bytes(last(host.saved)));
  if (last(host["swap-used"] || null) !== null) say("in swap", FORMAT.bytes(last(host["swap-used"])));
  drawAlerts();
  document.title = (data.alerts.length ? "(" + data.alerts.length + ") " : "") + "Aerostat";
}

const causeOf = (a) => {
  const raised = data.events.filter((e) => e.object === (a.object || "host") && e.text.startsWith(a.alert + " raised: ")).pop();
  return raised ? raised.text.slice(a.alert.length + 9) : "";
};

/* One box for an alert, with all whom it is about. */
function drawAlerts() {
  const box = document.getElementById("alerts");
  const order = ["critical", "warning"];
  const groups = new Map();
  for (const a of [...data.alerts].sort((x, y) => order.indexOf(x.level) - order.indexOf(y.level))) {
    const key = a.level + " " + a.alert;
    groups.set(key, (groups.get(key) || []).concat(a));
  }
  box.replaceChildren();
  for (const group of groups.values()) {
    const one = element(box, "span", "alert " + group[0].level);
    one.dataset.alert = group[0].alert;
    element(one, "b", "", group[0].level);
    one.append(" " + group[0].alert + ": ");
    for (const a of group) {
      const who = element(one, "span", "who", (a === group[0] ? "" : ", ") + (a.object || "host"));
      who.dataset.object = a.object || "host";
      who.title = "since " + clockText(a.since) + " " + causeOf(a);
    }
    one.append(" since " + clockText(Math.min(...group.map((a) => a.since))));
    if (group.length === 1 && causeOf(group[0])) one.append(": " + causeOf(group[0]));
  }
}

let eventsDrawn = "";
function drawEvents() {
  const key = data.instance + " " + (data.events.length ? data.events[data.events.length - 1].number : 0);
  if (key === eventsDrawn) return;
  eventsDrawn = key;
  const list = document.getElementById("events");
  list.replaceChildren();
  for (const e of data.events.slice(-200).reverse()) {
    const li = element(list, "li");
    li.id = "event-" + e.number;
    element(li, "time", "", clockText(e.time));
    element(li, "span", "level level-" + levelOf(e), levelOf(e));
    element(li, "span", "", e.object).title = e.object;
    element(li, "span", "", e.text).title = e.text;
    li.addEventListener("mouseenter", () => pointAt(e.time * 1000));
    li.addEventListener("mouseleave", () => pointAt(null));
  }
  if (!data.events.length) element(list, "li", "", "none yet");
}

/* ---- asking ---- */

let asking = 0, timer = 0;

async function ask(everything) {
  const mine = ++asking;
  clearTimeout(timer);
  const from = everything || !data.time.length ? 0 : data.first + data.time.length - 1;
  const after = everything || !data.events.length ? 0 : data.events[data.events.length - 1].number;
  try {
    const stride = everything ? 0 : data.stride;
    const answer = await fetch(`history.json?span=${span}&points=${POINTS}&stride=${stride}&from=${from}&after=${after}`);
    if (!answer.ok) throw new Error(String(answer.status));
    const body = await answer.json();
    if (mine !== asking) return;
    if (!merge(body, everything)) {
      ask(true);
      return;
    }
    drawRows();
    drawEvents();
    drawTop(false);
    document.body.dataset.streams = data.streams;
  } catch (error) {
    if (mine === asking) drawTop(true);
    console.warn(error);
  }
  if (mine === asking) timer = setTimeout(ask, POLL_MS, false);
}

function drawSpans() {
  const nav = document.getElementById("spans");
  for (const [label, seconds] of SPANS) {
    const button = element(nav, "button", "", label);
    button.type = "button";
    button.setAttribute("aria-pressed", seconds === span);
    button.addEventListener("click", () => {
      span = seconds;
      for (const other of nav.children) other.setAttribute("aria-pressed", other === button);
      ask(true);
    });
  }
}

if (typeof Dygraph === "undefined") {
  const note = element(document.getElementById("rows"), "p", "", "The chart library is not there: install Debian's libjs-dygraphs, or start the bridge with --library.");
  note.id = "missing";
}
drawSpans();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  theme.clear();
  drawRows();
});
ask(true);
