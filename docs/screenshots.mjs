/** Takes the pictures of the dashboard for these pages: called by screenshots.py. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { bench } from "../tests/board/bench.mjs";

const OUT = process.env.OUT;
const WIDE = { width: 1200, height: 740 };
const PHONE = { width: 360, height: 740 };

/** @type {[name: string, view: string, theme: "light" | "dark", size: {width: number, height: number}, ready: string][]} */
const SHOTS = [
  ["light", "mods", "light", WIDE, ".rows .row"],
  ["dark", "mods", "dark", WIDE, ".rows .row"],
  ["phone", "mods", "light", PHONE, ".rows .row"],
  ["mod", "mods/moody/crashes", "light", WIDE, "details.crash"],
  ["versions", "mods/search%402/versions", "dark", WIDE, ".version"],
  ["picture", "picture", "dark", WIDE, ".node"],
];

mkdirSync(OUT, { recursive: true });
const page = await bench.page();
await page.emulateMedia({ reducedMotion: "no-preference" });
for (const [name, view, colorScheme, size, ready] of SHOTS) {
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize(size);
  await bench.page(view);
  await page.locator(ready).first().waitFor();
  await page.waitForTimeout(6000); // the charts of a page that was just opened are empty
  await page.screenshot({ path: join(OUT, `${name}.png`) });
}
await bench.close();
