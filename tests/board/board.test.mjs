/** The dashboard in Chromium: one browser and one network for all tests. */

import assert from "node:assert/strict";
import { after } from "node:test";

import { bench } from "./bench.mjs";
import "./mods.mjs";
import "./operators.mjs";
import "./looks.mjs";

after(async () => {
  await bench.close();
  assert.deepEqual(bench.complaints, []);
});
