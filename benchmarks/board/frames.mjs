/** Reads from Chromium's trace how much scripting each frame of the page has; prints it as JSON. */

import { bench, link } from "../../tests/board/bench.mjs";

const SECONDS = Number(process.env.SECONDS ?? 10);
const VIEWS = ["mods", "mods, scrolled", "events", "picture", "mods/orders"];
const CATEGORIES = ["-*", "devtools.timeline", "toplevel", "disabled-by-default-devtools.timeline", "loading"];

const PAINTS = 9;

const page = await bench.page("mods", { reducedMotion: "no-preference" });
await page.locator(".rows .row").first().waitFor();
const paints = [];
while (paints.length < PAINTS) paints.push(await paint());
const first = await page.evaluate(() => ({
  bytes: performance.getEntriesByType("resource").reduce((sum, each) => sum + each.encodedBodySize, 0),
}));
const found = [];
for (const view of VIEWS) found.push({ view, ...first, paints, ...(await measured(view)) });
await bench.close();
console.log(JSON.stringify(found));

/** Milliseconds until a browser that has never seen the page paints it. */
async function paint() {
  const fresh = await bench.stranger();
  await fresh.goto(await link());
  await fresh.locator(".shell").waitFor();
  const took = await fresh.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0);
  await fresh.context().close();
  return took;
}

async function measured(view) {
  const [hash, scrolled] = view.split(", ");
  await page.evaluate((hash) => (location.hash = hash), hash);
  await page.waitForTimeout(2000); // the first line of a stream may be large; its own figure is in the view before
  await bench.browser.startTracing(page, { categories: CATEGORIES });
  await page.evaluate(
    async ([milliseconds, scrolled]) => {
      const scroller = document.querySelector(".scroller");
      const end = performance.now() + milliseconds;
      let down = 0;
      while (performance.now() < end) {
        await new Promise(requestAnimationFrame);
        if (scrolled) scroller.scrollTop = down += 90;
        if (down > scroller.scrollHeight) down = 0;
      }
    },
    [SECONDS * 1000, scrolled !== undefined],
  );
  const trace = JSON.parse(await bench.browser.stopTracing());
  const rows = await page.locator(".rows .row").count();
  return { ...summary(trace.traceEvents), rows };
}

/** Scripting between two frames of the page's main thread, and the longest task. */
function summary(events) {
  const main = events.find(
    (event) => event.name === "thread_name" && event.args.name === "CrRendererMain" && busy(events, event) > 100,
  );
  const mine = events
    .filter((event) => event.pid === main.pid && event.tid === main.tid && event.ph === "X")
    .sort((one, other) => one.ts - other.ts);
  const tasks = mine.filter((event) => /RunTask$/.test(event.name));
  const scripts = outermost(
    mine.filter((event) =>
      [
        "FunctionCall",
        "EvaluateScript",
        "RunMicrotasks",
        "TimerFire",
        "FireAnimationFrame",
        "EventDispatch",
        "XHRReadyStateChange",
        "v8.callFunction",
      ].includes(event.name),
    ),
  );
  const frames = events
    .filter((event) => event.pid === main.pid && event.name === "FireAnimationFrame")
    .map((event) => event.ts)
    .sort((one, other) => one - other);
  const begins = frames.filter((ts, index) => index === 0 || ts - frames[index - 1] > 4000);
  const spent = begins
    .slice(0, -1)
    .map((ts, index) => sum(scripts.filter((script) => script.ts >= ts && script.ts < begins[index + 1])));
  spent.sort((one, other) => one - other);
  const at = (share) => spent[Math.min(Math.floor(spent.length * share), spent.length - 1)] ?? 0;
  return {
    frames: spent.length,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    longest: Math.max(0, ...tasks.map((task) => spentBy(task))),
  };
}

/** Milliseconds of processor time: other programs may have the processor in between. */
function spentBy(event) {
  return (event.tdur ?? event.dur ?? 0) / 1000;
}

function busy(events, thread) {
  return events.filter((event) => event.pid === thread.pid && event.tid === thread.tid).length;
}

function outermost(sorted) {
  let end = 0;
  return sorted.filter((event) => {
    if (event.ts < end) return false;
    end = event.ts + (event.dur ?? 0);
    return true;
  });
}

function sum(scripts) {
  return scripts.reduce((all, script) => all + spentBy(script), 0);
}
