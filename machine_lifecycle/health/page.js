"use strict";
const STATES = __STATES__, EDGES = __EDGES__;
const SVG = "http://www.w3.org/2000/svg", W = 122, H = 44;
// Column and row of each state; the way up to Ready reads from left to right, on a narrow screen from top to bottom.
const PLACES = {
  starting: [0, 0], installing: [1, 0], custom_nodes: [2, 0], pm_generation: [3, 0], launching: [4, 0],
  services_starting: [5, 0], workers_starting: [6, 0], health_check: [7, 0],
  restarting: [0, 1], failed: [1, 1], stopping: [3, 1], stopped: [4, 1], processing: [6, 1], ready: [7, 1],
};
const $ = (id) => document.getElementById(id);
const node = (tag, text, cls) => {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (cls) made.className = cls;
  return made;
};
const draw = (tag, attributes, parent, text) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
};
const narrow = matchMedia("(max-width: 40rem)");
const WIDE = { along: [64, 136], across: [34, 172], view: "0 0 1080 200" };
const TALL = { along: [28, 66], across: [64, 232], view: "0 0 296 520" };
const centre = (word) => {
  const [place, row] = PLACES[word], way = narrow.matches ? TALL : WIDE;
  const along = way.along[0] + place * way.along[1], across = way.across[row];
  return narrow.matches ? [across, along] : [along, across];
};
const lasted = (s) => s < 0 ? "" : s < 1 ? `${Math.round(s * 1000)} ms` : s < 60 ? `${s.toFixed(1)} s`
  : s < 3600 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`
  : s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`
  : `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
const kind = (word) => ["ready", "processing"].includes(word) ? "good" : word === "failed" ? "bad" : "busy";

function diagram() {
  const picture = $("diagram"), tall = narrow.matches;
  picture.replaceChildren();
  picture.setAttribute("viewBox", (tall ? TALL : WIDE).view);
  const defs = draw("defs", {}, picture);
  const head = draw("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, defs);
  draw("path", { d: "M0 0 8 4 0 8z" }, head);
  const arrow = (d, cls) => draw("path", { d, class: cls || "", "marker-end": "url(#head)" }, picture);
  const said = (x, y, words, more) => draw("text", { x, y, class: "time", ...more }, picture, words);
  for (const [from, to] of EDGES) {
    if (!PLACES[from] || !PLACES[to]) continue;
    const [x, y] = centre(from), [u, v] = centre(to);
    const twice = EDGES.some(([a, b]) => a === to && b === from);
    const off = twice ? (x + y < u + v ? -8 : 8) : 0;
    if (y === v) { const s = Math.sign(u - x); arrow(`M${x + s * W / 2} ${y + off}H${u - s * W / 2}`); }
    else { const s = Math.sign(v - y); arrow(`M${x + off} ${y + s * H / 2}V${v - s * H / 2}`); }
  }
  const [x1, y1] = centre("starting"), [x2, y2] = centre("health_check"), x = 148, y = 100;
  draw("path", { d: tall ? `M${x} ${y1}V${y2}` : `M${x1 + 24} ${y}H${x2 - 24}`, class: "band" }, picture);
  for (const [word, why] of [["failed", "a fault"], ["stopping", "a stop"]]) {
    const [u, v] = centre(word);
    arrow(tall ? `M${x} ${v}H${u - W / 2}` : `M${u} ${y}V${v - H / 2}`, "band");
    said(u + 30, tall ? v - H / 2 - 7 : y + 24, why);
  }
  if (tall) { const [u, v] = [x + 14, centre("workers_starting")[1] - 42]; said(u, v, "from any of these", { transform: `rotate(-90 ${u} ${v})` }); }
  else said(centre("launching")[0] + 68, y - 6, "from any of these");
  for (const state of STATES) {
    if (!PLACES[state.word]) continue;
    const [x, v] = centre(state.word), group = draw("g", { id: `s-${state.word}` }, picture);
    draw("title", {}, group, state.summary);
    draw("rect", { x: x - W / 2, y: v - H / 2, width: W, height: H, rx: 9 }, group);
    draw("text", { x, y: v - 1 }, group, state.title);
    draw("text", { x, y: v + 15, class: "time", id: `t-${state.word}` }, group, "");
  }
}

function fill(id, columns, rows, empty) {
  const table = $(id), head = node("tr"), made = [];
  // Columns at the end in which nothing stands are left out.
  const width = Math.max(...rows.map((cells) => cells.findLastIndex((cell) => (cell ?? "") !== "") + 1), 0);
  columns = columns.slice(0, width);
  rows = rows.map((cells) => cells.slice(0, width));
  if (!rows.length) { const row = node("tr"); row.append(node("td", empty, "dim")); table.replaceChildren(row); return; }
  for (const column of columns) head.append(node("th", column));
  if (columns.length) made.push(head);
  for (const cells of rows) {
    const row = node("tr");
    for (const cell of cells) {
      if (cell instanceof Node) { const td = node("td"); td.append(cell); row.append(td); }
      else row.append(node("td", cell, String(cell ?? "").length > 40 ? "text" : ""));
    }
    made.push(row);
  }
  table.replaceChildren(...made);
}
const dotted = (text, cls) => { const made = node("span"); made.append(node("span", "", `dot ${cls}`), text); return made; };
const looks = (p) => p.state === "running" ? (p.ready ? "good" : "busy")
  : ["fatal", "exited"].includes(p.state) ? "bad" : p.state === "backoff" ? "warn" : "busy";

let report = null, skew = 0;
const now = () => Date.now() / 1000 - skew;
const age = (visit) => visit.seconds ?? Math.max(0, now() - visit.started);

function show() {
  const r = report, title = STATES.find((s) => s.word === r.state)?.title ?? r.state;
  document.title = `${title} · ${r.machine_id}`;
  $("machine").textContent = r.machine_id;
  $("state").textContent = title;
  $("state").className = `pill ${kind(r.state)}`;
  $("conditions").replaceChildren(...r.conditions.map((c) => {
    const made = node("span", `${c.kind}: ${c.reason}`, "pill warn"); return made;
  }));
  const way = r.timings.filter((t) => t.attempt === r.attempt);
  const broken = way[way.findLastIndex((t) => t.state === "failed") - 1]?.state;  // where a fault met it
  for (const state of STATES) {
    const group = $(`s-${state.word}`), visits = r.timings.filter((t) => t.state === state.word && t.attempt === r.attempt);
    if (!group) continue;
    const here = state.word === r.state, failed = state.word === broken;
    group.setAttribute("class", here ? `now ${kind(r.state)} ${kind(r.state) === "busy" ? "moving" : ""}`
      : failed ? "failed" : visits.length ? "done" : "");
  }
  const failure = r.failure, box = $("failure");
  box.hidden = !failure;
  if (failure) {
    const parts = [];
    for (const one of failure.errors ?? [failure]) {
      parts.push(node("h2", `Failure · ${one.code}`), node("p", one.summary, "cause"));
      if (one.where) parts.push(node("p", `at ${one.where}`, "dim"));
      if (one.context?.length) parts.push(node("pre", one.context.join("\n")));
      for (const remedy of one.remedies ?? []) {
        parts.push(node("p", `→ ${remedy.text}`));
        if (remedy.command) parts.push(node("pre", remedy.command));
      }
    }
    box.replaceChildren(...parts);
  }
  fill("processes", ["name", "state", "pid", "port", "gpu", "restarts", "waiting for"], r.processes.map((p) => [
    dotted(p.name, looks(p)), p.ready ? "ready" : p.state, p.pid, p.port, p.gpu, p.restarts,
    p.waiting_for || (p.last_exit && !p.ready ? p.last_exit.reason : ""),
  ]), "none yet");
  fill("workers", ["id", "does", "job", "done", "failed"], r.workers.map((w) => [
    dotted(w.id, w.connected ? (w.status === "busy" ? "busy" : "good") : w.status === "gone" ? "bad" : "warn"),
    w.status, w.current_job_id, w.jobs_completed, w.jobs_failed,
  ]), "none yet");
  $("packs-part").hidden = !r.loaded.some((one) => one.packs.length);
  fill("packs", ["pack", "on", "nodes", "import", "why not"], r.loaded.flatMap((one) => one.packs.map((p) => [
    dotted(p.name, p.state === "loaded" ? "good" : "bad"), one.instance, p.nodes,
    p.seconds === null ? "" : `${p.seconds.toFixed(1)} s`, p.reason,
  ])), "none");
  const gpus = r.hardware.gpus.map((g) => [`GPU ${g.index}`, `${g.name}, ${(g.memory_mib / 1024).toFixed(0)} GiB`]);
  fill("hardware", [], [
    ["version", `${r.version}, pid ${r.pid}`],
    ["queue", dotted(r.redis_where || "not known yet", r.redis_connected ? "good" : "bad")],
    ...(r.redis_trouble ? [["", r.redis_trouble]] : []),
    ["takes", r.capabilities.join(", ") || "nothing yet"],
    ["jobs", `${r.jobs_running} running, ${r.jobs_completed} completed, ${r.jobs_failed} failed`],
    ["processors", r.hardware.memory_mib ? `${r.hardware.cpus}, ${(r.hardware.memory_mib / 1024).toFixed(0)} GiB` : "not looked at yet"], ...gpus,
  ], "");
  $("checks-part").hidden = !r.checks.length;
  fill("checks", [], r.checks.map((c) => [dotted(c.name, c.ok ? "good" : "bad"), c.detail || lasted(c.seconds)]), "");
  $("story").replaceChildren(...[...r.story].reverse().map((line) => node("li", line)));
  tick();
}

function tick() {
  if (!report) return;
  const r = report;
  $("facts").textContent = `attempt ${r.attempt} · in this state ${lasted(Math.max(0, now() - r.since))}`;
  $("waiting").textContent = r.waiting.length ? `waiting for ${r.waiting.join("; ")}` : "";
  const boot = r.timings.filter((t) => t.expected), most = Math.max(...boot.map(age), 0.001);
  fill("timings", ["state", "took", "usual", ""], r.timings.map((t) => {
    const bar = node("div", "", t.seconds === null ? "bar" : "bar good");
    bar.style.width = `${100 * age(t) / most}%`;
    const share = node("div"); if (t.expected) share.append(bar); // Ready lasts as long as it likes
    return [`${STATES.find((s) => s.word === t.state)?.title ?? t.state}${t.attempt > 1 ? ` (${t.attempt})` : ""}`,
      lasted(age(t)), t.expected ? `${t.expected[0]}-${t.expected[1]} s` : "", share];
  }), "none yet");
  document.querySelectorAll("#timings td:last-child").forEach((cell) => { cell.className = "share"; });
  for (const state of STATES) {
    const mark = $(`t-${state.word}`), visits = r.timings.filter((t) => t.state === state.word && t.attempt === r.attempt);
    if (mark) mark.textContent = visits.length ? lasted(visits.reduce((sum, t) => sum + age(t), 0)) : "";
  }
}

diagram();
narrow.addEventListener("change", () => { diagram(); if (report) show(); });
const AGAIN = 3000; // ms; as long as a browser waits where it tries again by itself
function follow() {
  const events = new EventSource("/events");
  events.addEventListener("status", (message) => {
    report = JSON.parse(message.data);
    skew = Date.now() / 1000 - report.now;
    $("link").textContent = "live";
    show();
  });
  events.onerror = () => {
    $("link").textContent = "connection lost, trying again";
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, AGAIN); // it was refused
  };
}
follow();
setInterval(tick, 1000); // the clock on the page; what it shows comes by itself
