/** How the dashboard is used without a mouse, without good eyes, and on a phone; and what it weighs. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { bench, admin, dialog, row, until } from "./bench.mjs";

const VIEWS = [
  "mods",
  "mods/orders",
  "mods/orders/crashes",
  "mods/search%402/versions",
  "mods/orders/limits",
  "events",
  "letters",
  "agents",
  "channels",
  "audit",
  "picture",
];

async function show(page, hash) {
  await page.evaluate((hash) => (location.hash = hash), hash);
  await page.waitForFunction(
    (hash) => location.hash === `#${hash}` && document.querySelector(".scroller h1") !== null,
    hash,
  );
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}

test("all of it is done by keys", async () => {
  const page = await bench.page();
  await row(page, "orders").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("sto");
  await row(page, "prices").waitFor({ state: "detached" });
  await page.keyboard.press("Escape");
  await row(page, "prices").waitFor();
  await page.locator("h1").click();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const key = await page.evaluate(() => document.activeElement.closest(".row").dataset.key);
  await page.keyboard.press("Enter");
  await page.waitForFunction((key) => location.hash === `#mods/${encodeURIComponent(key)}`, key);
  await page.locator(".tabs").waitFor();
  await page.keyboard.press("Escape");
  await row(page, key).waitFor();
  await page.waitForFunction((key) => document.activeElement.closest(".row")?.dataset.key === key, key);
  await page.keyboard.press("?");
  await dialog(page).getByText("next row, previous row").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("g");
  await page.keyboard.press("e");
  await page.getByRole("heading", { name: "Events" }).waitFor();
});

test("the table is sorted by a press on a head, which says so", async () => {
  const page = await bench.page();
  await row(page, "orders").waitFor();
  await page.getByRole("button", { name: "Mod", exact: true }).click();
  await page.locator('[aria-sort="ascending"]').waitFor();
  await page.waitForFunction(() => {
    const rows = [...document.querySelectorAll(".rows .row")];
    const at = (each) => Number(each.getAttribute("aria-rowindex"));
    const keys = rows.sort((one, other) => at(one) - at(other)).map((each) => each.dataset.key);
    return keys.length > 3 && keys.every((key, index) => index === 0 || keys[index - 1] <= key);
  });
});

test("every view's controls have names, and no view is wider than a phone", async () => {
  const page = await bench.page();
  await page.setViewportSize({ width: 360, height: 740 });
  await row(page, "orders").waitFor();
  for (const view of VIEWS) {
    await show(page, view);
    assert.deepEqual(await page.evaluate(unnamed), [], `${view}: controls without a name`);
    const wide = await page.evaluate(
      () => document.querySelector(".scroller").scrollWidth - document.querySelector(".scroller").clientWidth,
    );
    assert.ok(wide <= 0, `${view} is ${wide} pixels wider than the phone`);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
});

for (const colorScheme of ["light", "dark"]) {
  test(`the text has a contrast of 4.5 and more, ${colorScheme}`, async () => {
    const page = await bench.page();
    await page.emulateMedia({ colorScheme });
    await admin("POST", "/events", { event_name: "moody.die", source_id: "alice" });
    await row(page, "orders").waitFor();
    for (const view of VIEWS) {
      await show(page, view);
      assert.deepEqual(await page.evaluate(faint), [], view);
    }
  });
}

test("the theme is switched and stays", async () => {
  const page = await bench.page();
  await page.emulateMedia({ colorScheme: "light" });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByRole("button", { name: "Theme: as the system's" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  assert.notEqual(await background(), light);
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.notEqual(await background(), light);
  await page.getByRole("button", { name: "Theme: dark" }).click();
});

test("an event is filtered for and followed on its way through the mods", async () => {
  const page = await bench.page("events");
  await page.getByLabel("Pattern of event names").fill("orders.*");
  await page.getByText("No event has come yet").waitFor();
  const { event_id } = await admin("POST", "/events", { event_name: "stock.take", source_id: "ann" });
  await page.getByLabel("Pattern of event names").fill("");
  const placed = await sendUntilSeen(page, "orders.place");
  assert.notEqual(placed, event_id);
  await row(page, placed).getByRole("link").click();
  await page.locator(".way-mod", { hasText: "orders" }).waitFor();
  await page.locator(".way .badge", { hasText: "answered" }).first().waitFor();
  await page.locator(".way .depth-1", { hasText: "stock.take" }).waitFor();
});

/** A stream is live a moment after the page is: send until the page shows one of the events. */
async function sendUntilSeen(page, name) {
  for (let turn = 0; turn < 50; turn++) {
    const { event_id } = await admin("POST", "/events", { event_name: name, source_id: "ann" });
    const seen = await row(page, event_id)
      .waitFor({ timeout: 1000 })
      .then(
        () => true,
        () => false,
      );
    if (seen) return event_id;
  }
  assert.fail(`no ${name} was shown`);
}

test("the picture shows who asks whom", async () => {
  const page = await bench.page("picture");
  await page.locator(".node", { hasText: "orders" }).waitFor();
  await until(async () => {
    await admin("POST", "/events", { event_name: "orders.place", source_id: "ann" });
    return (await page.locator("ul.unseen li", { hasText: "orders to stock" }).count()) > 0;
  });
  await page.locator(".node", { hasText: "stock" }).waitFor();
});

/** In the page: controls that a screen reader has no name for. */
function unnamed() {
  const found = [];
  for (const control of document.querySelectorAll("button, a[href], input, select, textarea")) {
    const name = control.getAttribute("aria-label") ?? control.innerText ?? "";
    const label = control.labels?.[0]?.innerText ?? "";
    if (`${name}${label}`.trim() === "" && control.checkVisibility()) found.push(control.outerHTML.slice(0, 120));
  }
  return found;
}

/** In the page: texts whose contrast with what is behind them is below 4.5. */
function faint() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let each = element; each !== null; each = each.parentElement)
      layers.push(rgba(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = (colour) => {
    const [r, g, b] = colour
      .slice(0, 3)
      .map((each) => (each / 255 <= 0.03928 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector(".shell"), NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text !== null; text = walker.nextNode()) {
    const element = text.parentElement;
    if (text.data.trim() === "" || !element.checkVisibility() || element.closest(".unseen, .skip, :disabled")) continue;
    const below = behind(element);
    const [one, other] = [light(over(rgba(getComputedStyle(element).color), below)), light(below)];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${element.className} ${text.data.trim().slice(0, 40)}`);
  }
  return found;
}
