// Draws what /status says: one job (the runner's page) or all jobs (of the operator, or of one process that runs several). Reads only, and only from here.
"use strict";

const EVERY_MS = 2000;
// One hour of samples, for the small curves; they are gone with the page.
const SAMPLES_MAX = 1800;
const samples = { rate: [], lag: [] };
let filter = "";
// What was opened by hand stays open while the page draws itself anew.
const opened = new Set();

// ---- building blocks ----------------------------------------------------------------------------------------------

/** An element; text is always text, so nothing from a job can become markup. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
const number = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));
const words = (name) => name.replace(/[_-]/g, " ").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();

/** Microseconds or RFC 3339 to milliseconds. */
const millis = (time) => (typeof time === "string" ? Date.parse(time) : time / 1000);

function age(time) {
  if (time === null || time === undefined) return "–";
  const seconds = (Date.now() - millis(time)) / 1000;
  const ahead = seconds < -1;
  const size = Math.abs(seconds);
  const text = size < 120 ? `${Math.round(size)} s` : size < 7200 ? `${Math.round(size / 60)} min`
    : size < 172800 ? `${Math.round(size / 3600)} h` : `${Math.round(size / 86400)} d`;
  return ahead ? `in ${text}` : `${text} ago`;
}
const at = (time) => (time === null || time === undefined ? "" : new Date(millis(time)).toISOString().replace("T", " ").slice(0, 19) + " UTC");
const bytes = (value) => (value < 1e6 ? `${(value / 1e3).toFixed(0)} kB` : value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`);
const total = (numbers) => numbers.reduce((sum, number) => sum + (number ?? 0), 0);
const pill = (kind, text) => el("span", { class: `pill ${kind}` }, text);

function card(title, value, below, curve) {
  return el("div", { class: "card" }, el("span", {}, title), el("b", {}, value), el("span", {}, below ?? ""), curve ?? null);
}

function curve(values) {
  if (values.length < 2) return null;
  const top = Math.max(1, ...values);
  const step = 100 / (values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(2)},${(29 - (28 * value) / top).toFixed(2)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", `M${points.join("L")}`);
  svg.append(path);
  return svg;
}

/** columns: [title, cell of a row, "number", "short", "words" or nothing]. */
function table(columns, rows) {
  const cell = (row) => ([title, value, kind]) => el("td", { "data-title": title, ...(kind ? { class: kind } : {}) }, value(row));
  return el("table", columns.length > 3 ? { class: "many" } : {},
    el("thead", {}, el("tr", {}, ...columns.map(([title, , kind]) => el("th", kind === "number" ? { class: kind } : {}, title)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...columns.map(cell(row))))));
}

function section(title, ...content) {
  return el("section", {}, el("h2", {}, title), ...content);
}

function fold(name, title, content) {
  const details = el("details", opened.has(name) ? { open: "" } : {}, el("summary", {}, title), content);
  details.addEventListener("toggle", () => (details.open ? opened.add(name) : opened.delete(name)));
  return el("section", {}, details);
}

const list = (entries) => el("dl", {}, ...entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

// ---- one job ------------------------------------------------------------------------------------------------------

const PHASES = { starting: "idle", running: "good", retrying: "warn", stalled: "bad", ended: "idle" };

function jobPage(job) {
  document.title = `${job.reason} · ${job.job}`;
  const kind = PHASES[job.phase] ?? "idle";
  const partitions = job.partitions ?? [];
  const holder = partitions.find((partition) => partition.holdsWatermark);
  const sources = Object.entries(job.totals?.sources ?? {});
  const outputs = Object.entries(job.totals?.outputs ?? {});
  const read = total(sources.map(([, source]) => source.read));
  const rows = total(outputs.map(([, output]) => output.rows));
  const files = total(outputs.map(([, output]) => output.files));
  const last = job.lastCommit;
  const page = [
    el("header", {}, el("h1", {}, `${job.namespace} / ${job.job}`), pill(kind, job.reason),
      el("span", { class: "quiet" }, `version ${job.program} · started ${age(job.started)}`)),
  ];
  const error = (job.errors ?? []).at(-1);
  if (!job.ready && job.message) {
    const cure = error && error.reason === job.reason && !job.message.includes(error.cure) ? `\nwhat to do: ${error.cure}` : "";
    page.push(el("div", { class: `note ${kind}` }, job.message + cure));
  }
  if (job.ready && job.noOutput) page.push(el("div", { class: "note warn" }, `No output (${job.noOutput}): ${job.noOutputMessage}`));
  page.push(el("div", { class: "cards" },
    card("records per second", number(job.recordsPerSecond), `${number(read)} read`, curve(samples.rate)),
    card("lag, records", number(job.lag), `${number(job.lagSeconds)} s, ${partitions.length === 1 ? "1 partition" : `${partitions.length} partitions`}`, curve(samples.lag)),
    card("watermark", age(job.watermark), holder ? `held by ${holder.topic} ${holder.partition}` : at(job.watermark)),
    card("last checkpoint", last ? age(last.clock) : "–", last ? `version ${number(last.version)}, ${number(last.batchMs)} ms` : "none yet"),
    ...(job.deduplicate ? [card("remembered records", number(job.deduplicate.keys), `${bytes(job.deduplicate.bytes)}, to recognise duplicates`)] : []),
    card("open windows", number(job.openWindows), `${number(job.stateGroups)} groups, ${bytes(job.stateBytes ?? 0)}`),
    card("rows written", number(rows), `${number(job.rowsPerSecond)} per second, ${number(files)} files`)));
  if (sources.length) page.push(section("Sources, since the log began", sourceTable(sources)));
  if (outputs.length) page.push(section("Outputs, since the log began", outputTable(outputs, job.outputs ?? {})));
  if (partitions.length) {
    const lag = (partition) => (partition.end === null ? null : Math.max(0, partition.end - partition.position));
    const worst = Math.max(1, ...partitions.map((partition) => lag(partition) ?? 0));
    page.push(section("Partitions", table([
      ["topic", (row) => row.topic, "words"], ["partition", (row) => number(row.partition), "number"],
      ["position", (row) => number(row.position), "number"],
      ["end", (row) => (row.end === null ? "no answer" : number(row.end)), "number"],
      ["lag", (row) => number(lag(row)), "number"], ["seconds", (row) => number(row.lagSeconds), "number"],
      ["", (row) => el("meter", { min: 0, max: worst, value: lag(row) ?? 0, title: "lag beside the worst partition" })],
      ["watermark", (row) => age(row.watermark), "number"],
      ["", (row) => (row.holdsWatermark ? pill("warn", "holds the watermark") : "")],
    ], partitions)));
  }
  const references = Object.entries(job.references ?? {});
  if (references.length) {
    page.push(section("References", table([
      ["reference", ([name]) => name, "words"], ["rows", ([, one]) => number(one.rows), "number"], ["memory", ([, one]) => bytes(one.bytes), "number"],
      ["loaded", ([, one]) => age(one.loaded), "short"], ["version", ([, one]) => one.version],
      ["", ([, one]) => (one.trouble ? `${one.trouble.message}; ${one.trouble.cure}` : ""), "words"],
    ], references)));
  }
  const commits = [...(job.lastCommits ?? (last ? [last] : []))].reverse();
  const errors = [...(job.errors ?? [])].reverse();
  if (commits.length) {
    page.push(section("Last checkpoints", table([
      ["when", (row) => age(row.clock), "short"], ["version", (row) => number(row.version), "number"], ["records", (row) => number(row.records), "number"],
      ["rows", (row) => number(row.rows), "number"], ["files", (row) => number(row.files), "number"], ["ms", (row) => number(row.batchMs), "number"],
    ], commits)));
  }
  if (errors.length) {
    page.push(section("Last errors", table([
      ["when", (row) => age(row.clock), "short"], ["times", (row) => number(row.times), "number"], ["reason", (row) => row.reason], ["what", (row) => row.message, "words"], ["what to do", (row) => row.cure, "words"],
    ], errors)));
  }
  page.push(fold("configuration", "Configuration", list(Object.entries(job.configuration ?? {}))));
  return page;
}

/** A column of numbers; it is left out where all of them are 0. */
const count = (title, value) => ({ title, value, isShown: (rows) => rows.some((row) => value(row) > 0) });

/** A table of what has a name: [name, what was counted]. Counts that none of them has are left out. */
function counted(title, columns, rows) {
  const shown = columns.filter((column) => !column.isShown || column.isShown(rows));
  return table([[title, ([name]) => name, "words"], ...shown.map((column) =>
    column.isShown ? [column.title, (row) => number(column.value(row)), "number"] : column)], rows);
}

/** Numbers by reason, as text. */
const reasons = (byReason) => Object.entries(byReason ?? {}).map(([name, times]) => `${words(name)}: ${number(times)}`).join("\n");

/** What became of the records of each source since the log began. */
function sourceTable(sources) {
  return counted("source", [
    ["read", ([, source]) => number(source.read), "number"], ["size", ([, source]) => bytes(source.bytes ?? 0), "number"],
    ["dead letters", ([, source]) => number(total(Object.values(source.dead_letter ?? {}))), "number"],
    count("tombstones", ([, source]) => source.tombstone ?? 0), count("control", ([, source]) => source.control ?? 0),
    count("future", ([, source]) => source.future ?? 0), count("duplicates", ([, source]) => source.duplicate ?? 0),
    count("lost offsets", ([, source]) => source.lost_offsets ?? 0), ["", ([, source]) => el("span", { class: "quiet" }, reasons(source.dead_letter)), "words"],
  ], sources);
}

/** What each output did with the records that reached it, what it wrote, and what it holds now. */
function outputTable(outputs, running) {
  const holds = (of, nothing = null) => ([name]) => { const now = running[name]; return now ? of(now) : nothing; };
  // A table of dead letters has no query that could do something with records.
  const did = (of) => ([name, output]) => (running[name] ? of(output) ?? 0 : null);
  const why = ([name, output]) => { const now = running[name]; return [now?.noOutput ? `no rows: ${now.noOutput}` : "", reasons(output.dead_letter), reasons(output.refused)].filter(Boolean).join("\n"); };
  return counted("output", [
    ["rows", ([, output]) => number(output.rows ?? 0), "number"], count("files", ([, output]) => output.files ?? 0), ["size", ([, output]) => bytes(output.bytes ?? 0), "number"],
    count("accepted", did((output) => output.accepted)), count("filtered", did((output) => output.filtered)),
    count("late", did((output) => output.late)), count("partly late", did((output) => output.partly_late)),
    count("dead letters", ([, output]) => total([output.dead_letter, output.refused].flatMap((letters) => Object.values(letters ?? {})))),
    count("open windows", holds((now) => now.openWindows)), count("groups", holds((now) => now.stateGroups)),
    ["state", holds((now) => (now.stateBytes ? bytes(now.stateBytes) : ""), ""), "number"],
    ["", (row) => el("span", { class: "quiet" }, why(row)), "words"],
  ], outputs);
}

// ---- all jobs -----------------------------------------------------------------------------------------------------

const condition = (job, type) => (job.status?.conditions ?? []).find((one) => one.type === type);

function state(job) {
  const ready = condition(job, "Ready");
  const stalled = condition(job, "Stalled")?.status === "True";
  const degraded = condition(job, "Degraded")?.status === "True";
  const reason = ready?.reason ?? "Unknown";
  if (stalled) return ["bad", reason];
  if (ready?.status === "True") return [degraded ? "warn" : "good", degraded ? condition(job, "Degraded").reason : reason];
  return [["Suspended", "Starting", "Stopping", "Draining"].includes(reason) ? "idle" : "warn", reason];
}

function operatorPage(all) {
  const jobs = all.jobs;
  const kinds = { bad: 0, warn: 0, idle: 0, good: 0 };
  for (const job of jobs) kinds[state(job)[0]] += 1;
  const order = { bad: 0, warn: 1, idle: 2, good: 3 };
  document.title = `${kinds.bad + kinds.warn ? `${kinds.bad + kinds.warn} not well · ` : ""}data-platform`;
  const shown = jobs
    .filter((job) => `${job.kind} ${job.namespace}/${job.name} ${state(job)[1]}`.toLowerCase().includes(filter.toLowerCase()))
    .sort((a, b) => order[state(a)[0]] - order[state(b)[0]] || `${a.namespace}/${a.name}`.localeCompare(`${b.namespace}/${b.name}`));
  const search = el("input", { type: "search", placeholder: "kind, namespace, name or state", "aria-label": "show only", value: filter });
  search.addEventListener("input", () => { filter = search.value; draw(all, true); });
  const lag = jobs.reduce((sum, job) => sum + (job.status?.lag?.totalRecords ?? 0), 0);
  const page = [
    el("header", {}, el("h1", {}, "data-platform"),
      kinds.bad ? pill("bad", `${kinds.bad} stalled`) : null, kinds.warn ? pill("warn", `${kinds.warn} not ready`) : null,
      jobs.length && !kinds.bad && !kinds.warn ? pill("good", "all is well") : null,
      el("span", { class: "quiet" }, `version ${all.program}${all.leader === undefined ? "" : all.leader ? " · leader" : " · standby"}`)),
    el("div", { class: "cards" },
      card("jobs", number(jobs.length), `${number(jobs.filter((job) => job.kind === "StreamingJob").length)} streaming, ${number(jobs.filter((job) => job.kind === "BatchJob").length)} batch`),
      card("ready", number(kinds.good), `${number(kinds.idle)} suspended or waiting`),
      card("lag, records", number(lag), "of all streaming jobs"),
      card("records per second", number(jobs.reduce((sum, job) => sum + (job.status?.throughput?.recordsInPerSecond ?? 0), 0)), "read from Kafka")),
  ];
  if (all.problem) page.push(el("div", { class: "note warn" }, `not taken up, what ran before goes on: ${all.problem}`));
  const streaming = shown.filter((job) => job.kind === "StreamingJob");
  const batch = shown.filter((job) => job.kind === "BatchJob");
  const first = [
    // The operator knows more of a streaming job that has said something; a process that runs jobs, of each.
    ["job", (job) => (all.leader === undefined || (job.kind === "StreamingJob" && job.status?.lastCheckpoint)
      ? el("a", { href: `jobs/${job.namespace}/${job.name}/` }, `${job.namespace} / ${job.name}`) : `${job.namespace} / ${job.name}`), "words"],
    ["state", (job) => pill(...state(job))],
  ];
  const message = ["message", (job) => {
    const [kind] = state(job);
    return kind === "good" ? el("span", { class: "quiet" }, job.status?.noOutput ? `no output: ${job.status.noOutput}` : "") : condition(job, "Ready")?.message ?? "";
  }, "words"];
  page.push(el("p", {}, search));
  if (streaming.length) {
    page.push(section("Streaming jobs", table([...first,
      ["lag", (job) => number(job.status?.lag?.totalRecords), "number"],
      ["records/s", (job) => number(job.status?.throughput?.recordsInPerSecond), "number"],
      ["watermark", (job) => age(job.status?.watermark), "number"],
      ["last checkpoint", (job) => age(job.status?.lastCheckpoint?.time), "number"], message], streaming)));
  }
  if (batch.length) {
    page.push(section("Batch jobs", table([...first,
      ["schedule", (job) => (job.schedule ? `${job.schedule} ${job.timeZone ?? ""}` : "once")],
      ["last run", (job) => age(job.status?.lastRun?.completionTime ?? job.status?.lastRun?.startTime), "number"],
      ["result", (job) => job.status?.lastRun?.result ?? "–"],
      ["rows", (job) => number(job.status?.lastRun?.rows), "number"],
      ["next run", (job) => age(job.status?.nextScheduleTime), "number"], message], batch)));
  }
  if (!shown.length) page.push(el("p", { class: "quiet" }, jobs.length ? "no job matches" : "no jobs yet: kubectl apply -f event-aggregation.yaml"));
  return page;
}

// ---- drawing ------------------------------------------------------------------------------------------------------

function draw(status, typing = false) {
  const page = document.getElementById("page");
  // A field that is being typed into keeps its place.
  const focus = typing || document.activeElement?.type === "search";
  const cursor = document.activeElement?.selectionStart;
  page.replaceChildren(...(status.jobs ? operatorPage(status) : jobPage(status)).filter(Boolean));
  if (focus) {
    const search = page.querySelector("input");
    search?.focus();
    search?.setSelectionRange(cursor, cursor);
  }
}

async function look() {
  const asked = document.getElementById("asked");
  try {
    const answer = await fetch("status", { cache: "no-store" });
    const status = await answer.json();
    for (const [name, value] of [["rate", status.recordsPerSecond], ["lag", status.lag]]) {
      if (typeof value === "number") samples[name].push(value);
      if (samples[name].length > SAMPLES_MAX) samples[name].shift();
    }
    draw(status);
    asked.textContent = `as of ${new Date().toISOString().slice(11, 19)} UTC`;
  } catch (error) {
    asked.textContent = `no answer since ${new Date().toISOString().slice(11, 19)} UTC (${error.message}); trying again`;
  }
  setTimeout(look, EVERY_MS);
}
look();
