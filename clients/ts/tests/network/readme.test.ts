/** The program in the README does what the README says. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { RealLab } from "./lab.js";

const ROOT = new URL("../../../", import.meta.url);
const lab = new RealLab();

after(async () => await lab.close());

test("the program in the README does what the README says", async () => {
  const readme = await readFile(new URL("README.md", ROOT), "utf8");
  const [program, output] = ["js", "text"].map(
    (language) => readme.split("```" + language + "\n")[1]!.split("```")[0]!,
  );
  const path = fileURLToPath(new URL("build/readme.js", ROOT));
  await writeFile(path, program!);
  const env = { ...process.env, MODVISOR_URL: await lab.url() };
  const { stdout } = await promisify(execFile)(process.execPath, [path], { env, timeout: 20_000 });
  assert.equal(stdout, output);
});
