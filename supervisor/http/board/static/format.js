/** Figures as people read them. Every function takes null for what is not known, and says so with a dash. */

export const NONE = "–";

/** In units of 1000, as limits are read. @param {number | null | undefined} bytes */
export function bytes(bytes) {
  if (bytes === null || bytes === undefined) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit++;
  }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

/** @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 10_000) return Math.round(value).toLocaleString("en");
  if (value < 1_000_000) return `${short(value / 1_000)}k`;
  return `${short(value / 1_000_000)}M`;
}

/** @param {number} value */
function short(value) {
  return value >= 100 ? String(Math.round(value)) : value.toFixed(1);
}

/** Events per second. @param {number | null | undefined} value */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  return value < 10 ? value.toFixed(1) : count(value);
}

/** @param {number | null | undefined} ms */
export function latency(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** @param {number | null | undefined} value */
export function percent(value) {
  if (value === null || value === undefined) return NONE;
  return `${value < 10 && value > 0 ? value.toFixed(1) : Math.round(value)} %`;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

/** @param {number} a @param {string} unit @param {number} b @param {string} smaller */
function two(a, unit, b, smaller) {
  return b === 0 || a >= 10 ? `${a} ${unit}` : `${a} ${unit} ${b} ${smaller}`;
}

/** How long ago a point in time was. @param {number | null | undefined} at Unix seconds */
export function ago(at) {
  if (at === null || at === undefined) return NONE;
  const seconds = Date.now() / 1000 - at;
  return seconds < 2 ? "now" : `${duration(seconds)} ago`;
}

/** A point in time, of today without its day. @param {number | null | undefined} at Unix seconds */
export function time(at) {
  if (at === null || at === undefined) return NONE;
  const then = new Date(at * 1000);
  const clock = then.toLocaleTimeString("en-GB");
  if (then.toDateString() === new Date().toDateString()) return clock;
  return `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock}`;
}

/** A time of today with milliseconds. @param {number} at Unix seconds */
export function exactTime(at) {
  const then = new Date(at * 1000);
  return `${then.toLocaleTimeString("en-GB")}.${String(then.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {number} count @param {string} one @param {string} [many] */
export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
