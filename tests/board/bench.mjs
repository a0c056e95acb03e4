/** What the browser's tests share: Chromium, pages that are logged in, and the network behind its unix socket. */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { request } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const ofClient = createRequire(new URL("../../clients/ts/package.json", import.meta.url));
const { chromium } = ofClient("playwright-core");

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
// It may reach nothing but this machine: it looks for no updates, and takes part in no trials.
const FLAGS = ofClient("./tests/chromium.json");

export const URL_OF_LAB = process.env.LAB_URL;
const SOCKET = process.env.LAB_SOCKET;

export class Bench {
  /** What pages did that no page may do: errors, refused content, requests to elsewhere. */
  complaints = [];

  static async open() {
    const bench = new Bench();
    bench.browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
    return bench;
  }

  async close() {
    await this.shared?.context().close();
    await this.browser.close();
  }

  /** Show a view to an operator who may do everything. All tests share this page: to open one costs a second. */
  async page(hash = "mods") {
    if (this.shared === undefined) {
      this.shared = await this.stranger();
      await this.shared.goto(await link());
      await this.shared.locator(".shell").waitFor();
    }
    await this.shared.evaluate((hash) => {
      for (const open of document.querySelectorAll("dialog[open]")) open.close();
      document.activeElement.blur();
      location.hash = "";
      location.hash = hash;
    }, hash);
    return this.shared;
  }

  /** Open a page of a browser that nobody is logged in with. */
  async stranger(looks = {}) {
    const context = await this.browser.newContext({
      viewport: { width: 1280, height: 800 },
      reducedMotion: "reduce",
      ...looks,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => this.complaints.push(String(error.stack)));
    page.on(
      "console",
      (message) => /Content Security Policy/.test(message.text()) && this.complaints.push(message.text()),
    );
    page.on("request", (sent) => sent.url().startsWith(URL_OF_LAB) || this.complaints.push(`asked for ${sent.url()}`));
    return page;
  }
}

/** Ask the admin API on the unix socket. */
export function admin(method, path, body) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: SOCKET, method, path: `/admin/v1${path}`, headers }, async (response) => {
      let text = "";
      for await (const piece of response.setEncoding("utf8")) text += piece;
      resolve(JSON.parse(text));
    });
    sent.on("error", reject).end(body === undefined ? undefined : JSON.stringify(body));
  });
}

export async function link(scope = "admin") {
  return (await admin("POST", "/links", { scope })).data.url;
}

export async function token(name, scope) {
  return (await admin("POST", "/tokens", { name, scope })).data.token;
}

/** Have the mod moody end no more. */
export function cure() {
  writeFileSync(join(SOCKET, "../../../mods/moody/cured"), "");
}

export async function mod(id) {
  return (await admin("GET", "/stats")).mods[id];
}

/** Wait until something is so that no page tells of. */
export async function until(condition) {
  for (let turn = 0; turn < 600; turn++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail(`did not come true: ${condition}`);
}

export const row = (page, id) => page.locator(`.row[data-key="${id}"]`);
export const dialog = (page) => page.locator("dialog[open]");

export const bench = await Bench.open();
