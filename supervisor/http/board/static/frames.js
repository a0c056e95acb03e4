/**
 * What is drawn, and when: jobs run in animation frames, a few milliseconds in each.
 *
 * A job that is asked for twice before its frame runs once. What does not fit into a frame comes in the next one, so a
 * thousand changes never make a long task.
 */

const BUDGET = 4; // milliseconds of scripting in a frame: half of what it may take, the rest is for events and layout

/** @type {Map<unknown, () => void>} */
const jobs = new Map();
let asked = false;

/**
 * Do a job in the next frame.
 *
 * @param {unknown} key a later job with the same key takes the place of this one
 * @param {() => void} job
 */
export function inFrame(key, job) {
  jobs.set(key, job);
  if (!asked) request();
}

/** @param {unknown} key */
export function forget(key) {
  jobs.delete(key);
}

function request() {
  asked = true;
  requestAnimationFrame(run);
}

function run() {
  const began = performance.now();
  asked = false;
  // A job that asks for itself again runs in the next frame, not in this one.
  for (const [key, job] of [...jobs]) {
    if (jobs.get(key) !== job) continue;
    jobs.delete(key);
    job();
    if (performance.now() - began > BUDGET) break;
  }
  if (jobs.size > 0 && !asked) request();
}

/**
 * Whether movement is to be spared.
 *
 * @returns {boolean}
 */
export function isCalm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
