/** Who may look at the dashboard, and who may do what. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { bench, URL_OF_LAB, admin, cure, dialog, link, mod, row, token, until } from "./bench.mjs";

async function logIn(page, secret) {
  await page.goto(URL_OF_LAB);
  await page.getByLabel("Operator's token").fill(secret);
  await page.getByRole("button", { name: "Log in" }).click();
}

test("a token logs in, a wrong one does not, and a session outlives the page", async () => {
  const page = await bench.stranger();
  await logIn(page, "mvt_wrong");
  await page.getByRole("alert").getByText(/token/).waitFor();
  await logIn(page, await token("carol", "operate"));
  await row(page, "orders").waitFor();
  await page.reload();
  await row(page, "orders").waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Operator's token").waitFor();
  await page.reload();
  await page.getByLabel("Operator's token").waitFor();
  await page.context().close();
});

test("a link logs in once", async () => {
  const url = await link("read");
  const [first, second] = [await bench.stranger(), await bench.stranger()];
  await first.goto(url);
  await row(first, "orders").waitFor();
  assert.equal(new URL(first.url()).hash, "#mods", "the code is out of the address");
  await second.goto(url);
  await second.getByText(/This link cannot be used/).waitFor();
  await first.context().close();
  await second.context().close();
});

test("who may only read sees no button that does something, and the network refuses what the page does not offer", async () => {
  const page = await bench.stranger();
  await logIn(page, await token("reader", "read"));
  await row(page, "orders").waitFor();
  assert.equal(await page.getByRole("button", { name: /load/i }).count(), 0);
  for (const [hash, shown] of [
    ["mods/orders", "Log"],
    ["mods/search%402/versions", "search@2"],
    ["letters", "Dead letters"],
    ["agents", "Agents"],
  ]) {
    await page.evaluate((hash) => (location.hash = hash), hash);
    await page.getByText(shown).first().waitFor();
    assert.equal(
      await page
        .getByRole("button", { name: /reload|restart|swap|unload|promote|roll|replay|send away|apply/i })
        .count(),
      0,
      hash,
    );
    assert.equal(await page.getByRole("slider").count(), 0);
  }
  const statuses = await page.evaluate(async () => {
    const { data } = await (await fetch("/board/session")).json();
    const headers = { "X-Modvisor-CSRF": data.csrf, "Content-Type": "application/json" };
    const ask = async (path, method, body) => (await fetch(`/admin/v1${path}`, { method, headers, body })).status;
    return [
      await ask("/mods/orders/restart", "POST"),
      await ask("/mods", "POST", '{"path": "./rates"}'),
      await ask("/mods/orders", "DELETE"),
    ];
  });
  assert.deepEqual(statuses, [403, 403, 403]);
  await page.context().close();
});

test("a request without the page's own mark is refused, with any session", async () => {
  const page = await bench.page();
  const status = await page.evaluate(
    async () => (await fetch("/admin/v1/mods/orders/restart", { method: "POST" })).status,
  );
  assert.equal(status, 403);
});

test("a revoked token ends its session before one's eyes", async () => {
  const page = await bench.stranger();
  await logIn(page, await token("dave", "read"));
  await row(page, "orders").waitFor();
  await admin("DELETE", "/tokens/dave");
  await page.getByText("Your session has ended").waitFor();
  await page.context().close();
});

test("a dead letter is replayed, and is gone when its mod has answered", async () => {
  const page = await bench.page();
  await admin("POST", "/events", { event_name: "moody.die", source_id: "alice", payload: { text: "what-it-carries" } });
  await page.evaluate(() => (location.hash = "letters"));
  await page.locator(".row", { hasText: "moody.die" }).first().getByRole("link").click();
  await page.getByText("what-it-carries").waitFor();
  cure();
  await until(async () => (await mod("moody")).state === "ready");
  await page.getByRole("button", { name: "Replay" }).click();
  await dialog(page).getByText("Gives moody.die from alice").waitFor();
  await dialog(page).getByRole("button", { name: "Replay" }).click();
  await dialog(page).getByText("not any more").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText(/no dead letter/).waitFor();
});
