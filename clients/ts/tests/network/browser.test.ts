/** The list of cases in a page of headless Chromium, which loads the package as it was built. */

import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium, type Browser, type Page } from "playwright-core";

import { cases } from "./cases.js";
import { RealLab } from "./lab.js";

const ROOT = new URL("../../../", import.meta.url);
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FILES: Record<string, string> = { "/index.js": "dist/index.js", "/page.js": "build/page/page.js" };
const PAGE = `<!doctype html><title>cases</title>
<script type="importmap">{"imports": {"@modvisor/client": "/index.js"}}</script>
<script type="module" src="/page.js"></script>`;

let server: Server;
let lab: RealLab;
let browser: Browser;
let page: Page;

before(async () => {
  server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  lab = new RealLab(origin);
  // It may reach nothing but this machine: it looks for no updates, and takes part in no trials.
  const args = JSON.parse(await readFile(new URL("tests/chromium.json", ROOT), "utf8")) as string[];
  browser = await chromium.launch({ executablePath: CHROMIUM, args });
  page = await browser.newPage();
  await page.exposeFunction("askLab", (method: keyof RealLab, ...given: [string]) => lab[method](...given));
  await page.goto(origin);
  await page.waitForFunction(() => window.runCase !== undefined);
});

after(async () => {
  await browser?.close();
  await lab?.close();
  server?.close();
});

for (const name of Object.keys(cases)) {
  test(name, { timeout: 40_000 }, async () => {
    await page.evaluate((name) => window.runCase(name), name);
  });
}

function answer(request: { url?: string }, response: import("node:http").ServerResponse): void {
  const file = FILES[request.url ?? ""];
  if (file === undefined) return void response.setHeader("content-type", "text/html").end(PAGE);
  response.setHeader("content-type", "text/javascript");
  readFile(fileURLToPath(new URL(file, ROOT))).then(
    (bytes) => response.end(bytes),
    () => response.destroy(),
  );
}
