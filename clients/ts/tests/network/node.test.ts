/** The list of cases in Node, and what only Node has: the secret file and files by path. */

import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { AgentClient, BadUse, fileSecret } from "@modvisor/client";

import { Bench, cases } from "./cases.js";
import { RealLab } from "./lab.js";

const lab = new RealLab();
let folder = "";

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "modvisor-ts-"));
});

after(async () => {
  await lab.close();
  await rm(folder, { recursive: true });
});

for (const [name, run] of Object.entries(cases)) {
  test(name, { timeout: 20_000 }, async () => {
    const bench = new Bench(lab, (key) => fileSecret(join(folder, key)));
    try {
      await run(bench);
    } finally {
      await bench.close();
    }
  });
}

test("the secret file is for its user alone, and one that others can read is refused", async () => {
  const secretFile = join(folder, "agents", "alice.secret");
  const alice = await AgentClient.connect(await lab.url(), "node-alice", { secretFile });
  await alice.close();
  assert.equal((await stat(secretFile)).mode & 0o777, 0o600);
  assert.equal(await readFile(secretFile, "utf8"), `${alice.secret}\n`);
  await chmod(secretFile, 0o640);
  await assert.rejects(AgentClient.connect(await lab.url(), "node-alice", { secretFile }), BadUse);
});

test("files are sent by their paths", async () => {
  const path = join(folder, "file");
  await writeFile(path, "hi");
  await using alice = await AgentClient.connect(await lab.url(), "node-bob");
  const digest = await alice.request<{ file: { size: number } }>("lab.digest", {}, { files: { file: path } });
  assert.equal(digest.file.size, 2);
  await assert.rejects(alice.send("lab.digest", {}, { files: { file: join(folder, "none") } }), BadUse);
});
