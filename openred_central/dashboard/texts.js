"use strict";

// Words, numbers and elements. All text enters the page as text: no code parses HTML.

// The states in the order in which silence passes through them.
const STATES = new Map([
  ["active", { lasts: "silent for up to", meaning: "gave a sign of life within the tolerance" }],
  ["pending_1st", { lasts: "in grace for", meaning: "the tolerance is over" }],
  ["failed_1st", { lasts: "next step in", meaning: "still silent after the grace period" }],
  ["retry_48h", { lasts: "next step in", meaning: "still silent; the first of three further waits" }],
  ["retry_2w", { lasts: "next step in", meaning: "still silent; the second of three further waits" }],
  ["retry_2m", { lasts: "next step in", meaning: "still silent; the third of three further waits" }],
  ["coma", { lasts: "sleeps for", meaning: "dormant, identity kept" }],
  ["dead", { lasts: "name kept for", meaning: "removed; a tombstone keeps the name" }],
]);
const LIVE = [...STATES.keys()].filter((state) => state !== "dead");
const SILENT = LIVE.filter((state) => state !== "active");

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

const byId = (id) => document.getElementById(id);

/** Make an HTML element. True makes an attribute without a value; false and null leave it out. */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Make an SVG element in the namespace of `beside`, any SVG element of the page. */
function drawn(beside, name, attributes = {}, ...children) {
  return filled(document.createElementNS(beside.namespaceURI, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Set the text of an element only if it changes, so that no screen reader repeats it. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function count(number, one, many) {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}

/** Format a rate or a time with three digits; a dash if it is unknown. */
function figure(number) {
  if (number === null || number === undefined) return "–";
  return number >= 100 ? whole.format(number) : precise.format(number);
}

/** Format a rate with its unit, such as "1 request/s". */
function pace(number, one, many) {
  const told = figure(number);
  return `${told} ${told === "1" ? one : many}/s`;
}

/** Format a duration in its largest units, at most `parts` of them. */
function span(seconds, parts = 2) {
  const found = [];
  for (const [unit, length_s] of UNITS) {
    const times = Math.floor(seconds / length_s);
    seconds -= times * length_s;
    if (times) found.push(count(times, unit, `${unit}s`));
    if (found.length === parts || (found.length && !times)) break;
  }
  return found.join(" ") || "less than a second";
}

/** Format a moment: the time, and the date unless it is near. */
function moment(at) {
  const date = new Date(at);
  const near = Math.abs(date - Date.now()) < 43200_000;
  return near
    ? date.toLocaleTimeString("en-GB")
    : date.toLocaleString("en-GB", { day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit" });
}

/** Make the name of a state with its colour. */
function badge(state) {
  return element("span", { class: "badge", "data-of": STATES.has(state) ? state : "absent" }, String(state));
}

/** Return the cause of a transition for people. */
function cause(transition) {
  const { from, reason } = transition;
  if (reason === "registered") return STATES.has(from) && from !== "dead" ? "registered again" : "registered";
  return { sign_of_life: "sign of life", deadline: "by silence", left: "on its own request", forgotten: "erased" }[reason] ?? String(reason);
}
