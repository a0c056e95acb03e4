/** Mods on the dashboard: load, kill, read why, divide, unload. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { bench, admin, dialog, mod, row, until } from "./bench.mjs";

test("a mod is chosen, its config is said in a form, and it appears", async () => {
  const page = await bench.page();
  await page.getByRole("button", { name: "Load a mod" }).click();
  await dialog(page).getByLabel("Filter mods, or type a path").fill("finds things");
  await dialog(page)
    .getByRole("button", { name: /Finds things/ })
    .click();
  await dialog(page).getByLabel("Id", { exact: false }).first().fill("finder");
  await dialog(page).getByLabel("language").selectOption({ label: "de" });
  await dialog(page).getByLabel("find words with a typo").uncheck();
  await dialog(page).getByLabel("sources").fill("attic\ncellar");
  await dialog(page).getByLabel("shards").fill("2");
  await dialog(page).getByRole("button", { name: "Load", exact: true }).click();
  await dialog(page).getByText("mod finder 1.4.0 loaded from ./search").waitFor();
  await dialog(page).locator(".dialog-foot").getByRole("button", { name: "Close" }).click();
  await row(page, "finder").getByText("ready").waitFor();
  const answer = await admin("POST", "/events", { event_name: "search.for", destination_id: "mod:finder" });
  assert.deepEqual(answer.data.config, {
    language: "de",
    fuzzy: false,
    sources: ["attic", "cellar"],
    index: { shards: 2 },
  });
});

test("a config that does not follow the schema is refused in the dialog, with the mistake", async () => {
  const page = await bench.page();
  await page.getByRole("button", { name: "Load a mod" }).click();
  await dialog(page).getByLabel("Filter mods, or type a path").fill("search");
  await dialog(page)
    .getByRole("button", { name: /Finds things/ })
    .click();
  await dialog(page).getByLabel("delay").fill("99");
  await dialog(page).getByRole("button", { name: "Load", exact: true }).click();
  assert.equal(
    await dialog(page)
      .getByLabel("delay")
      .evaluate((input) => input.validity.rangeOverflow),
    true,
  );
});

test("a mod that is killed recovers before one's eyes, and its crash report says how it ended", async () => {
  const page = await bench.page();
  const { pid } = await mod("stock");
  process.kill(pid, "SIGKILL");
  await row(page, "stock").locator(".c-restarts").getByText("1").waitFor();
  await row(page, "stock").getByText("ready").waitFor();
  await row(page, "stock").getByRole("link").click();
  await page.getByRole("link", { name: "Crash reports" }).click();
  const report = page.locator("details.crash[open]");
  await report.getByText("SIGKILL").waitFor();
  assert.match(await report.innerText(), new RegExp(`Pid\\s+${pid}`));
});

test("a mod in quarantine stands first, with the button that mends it, and what it will do is said before", async () => {
  const page = await bench.page();
  for (let time = 0; time < 4; time++) {
    await admin("POST", "/events", { event_name: "moody.die", source_id: "alice" });
    await until(async () => ["ready", "quarantined"].includes((await mod("moody")).state));
  }
  const problem = page.locator(".problem").first();
  await problem.getByText("It is in quarantine. It ended 4 times").waitFor();
  assert.equal(await page.locator('.rows .row[aria-rowindex="2"]').getAttribute("data-key"), "moody");
  await problem.getByRole("button", { name: "Restart mod moody" }).click();
  await dialog(page)
    .locator(".plan")
    .getByText(/process/)
    .waitFor();
  await dialog(page).getByRole("button", { name: "Restart", exact: true }).click();
  await dialog(page).locator(".outcome.ok").waitFor();
  await page.keyboard.press("Escape");
  await row(page, "moody").getByText("ready").waitFor();
});

test("the slider gives a version more sources, after it was asked whether it shall", async () => {
  const page = await bench.page("mods/search%402/versions");
  const slider = page.getByRole("slider");
  await slider.waitFor();
  const box = await slider.boundingBox();
  const y = box.y + box.height / 2;
  await page.mouse.move(box.x + box.width * 0.2, y);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, y, { steps: 4 });
  await page.mouse.up();
  const percent = Number(await slider.inputValue());
  assert.ok(percent > 50 && percent < 70, String(percent));
  await page.getByText(`will get the events of ${percent} % of the sources, instead of 20 %`).waitFor();
  await page.getByRole("button", { name: "Apply" }).click();
  await page.locator(".notice").getByText(`search@2 reaches ${percent} % of the sources`).waitFor();
  const { data } = await admin("GET", "/mods/search@2/audience");
  assert.equal(data.versions.find((version) => version.mod_id === "search@2").audience.percent, percent);
});

test("a mod is reloaded with another config, and how far a reload is shows while it waits for events", async () => {
  const page = await bench.page("mods/search");
  const reload = async () => {
    await page.getByRole("button", { name: "Reload mod search", exact: true }).click();
    await dialog(page).locator(".plan").getByText(/files/).waitFor();
  };
  await reload();
  await dialog(page).getByText("With another path or config").click();
  await dialog(page).getByLabel("Replace the config").check();
  assert.equal(await dialog(page).getByLabel("delay").inputValue(), "0.02");
  await dialog(page).getByLabel("delay").fill("2.5");
  await dialog(page).getByRole("button", { name: "Reload", exact: true }).click();
  await dialog(page).locator(".outcome.ok").waitFor();
  assert.equal((await admin("GET", "/mods/search")).config.delay, 2.5);
  await page.keyboard.press("Escape");
  await reload();
  const asked = ["ann", "bob", "cyd", "dan"].map((source_id) =>
    admin("POST", "/events", { event_name: "search.for", source_id, destination_id: "mod:search" }),
  );
  await until(async () => (await mod("search")).traffic.in_flight > 0);
  await dialog(page).getByRole("button", { name: "Reload", exact: true }).click();
  await dialog(page).locator(".under-way progress").first().waitFor();
  await dialog(page).locator(".outcome.ok").waitFor();
  for (const answer of await Promise.all(asked)) assert.equal(answer.success, true);
});

test("a mod's log comes as it is printed", async () => {
  const page = await bench.page("mods/mailer");
  for (let number = 0; number < 5; number++) {
    await admin("POST", "/events", { event_name: "mailer.send", payload: { to: "ann@example.org" } });
  }
  await page.locator(".log-line").getByText("to ann@example.org sent").first().waitFor();
});

test("a mod is unloaded, and is gone from the table", async () => {
  const page = await bench.page("mods/rates");
  await page.getByRole("button", { name: "Unload mod rates" }).click();
  await dialog(page).locator(".plan").getByText(/rates/).waitFor();
  await dialog(page).getByRole("button", { name: "Unload", exact: true }).click();
  await dialog(page).getByText("mod rates unloaded").waitFor();
  await page.keyboard.press("Escape");
  await page.evaluate(() => (location.hash = "mods"));
  await row(page, "orders").waitFor();
  await row(page, "rates").waitFor({ state: "detached" });
});
