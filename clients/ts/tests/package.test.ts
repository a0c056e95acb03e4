/** The package as npm installs it, in a folder of its own: nothing beside it, and types that a strict program takes. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const run = promisify(execFile);
let folder = "";

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "modvisor-ts-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: ROOT });
  const [{ filename }] = JSON.parse(stdout);
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  await run("npm", ["install", "--offline", "--omit=peer", `./${filename}`], { cwd: folder });
});

after(async () => await rm(folder, { recursive: true }));

test("it brings no other package", async () => {
  const installed = await readdir(join(folder, "node_modules"));
  assert.deepEqual(
    installed.filter((name) => !name.startsWith(".")),
    ["@modvisor"],
  );
});

test("without a WebSocket it says what to install", { skip: globalThis.WebSocket !== undefined }, async () => {
  await writeFile(
    join(folder, "program.js"),
    `import { AgentClient, Unreachable } from "@modvisor/client";
     const error = await AgentClient.connect("http://127.0.0.1:1", "alice").catch((error) => error);
     console.log(error instanceof Unreachable, error.message);`,
  );
  const { stdout } = await run(process.execPath, ["program.js"], { cwd: folder });
  assert.match(stdout, /^true .*npm install ws/);
});

test("its types are taken by a strict program, for a page as for Node", async () => {
  await writeFile(
    join(folder, "program.ts"),
    `import { AgentClient, NoSuchMod, storedSecret, type ReceivedEvent } from "@modvisor/client";
     export async function main(): Promise<void> {
       const me: AgentClient = await AgentClient.connect("localhost:8700", "alice", { group: "members" });
       const page = await me.request<{ title: string }>("wiki.page.get", { path: "home" });
       me.on(["chat.*"], (event: ReceivedEvent) => page.title + event.payload.text);
       for await (const event of me.events("chat.*")) await me.reply(event, { seen: true });
       await me.close({ leave: true });
       const store = storedSecret("alice");
       throw new NoSuchMod(String(store.load()));
     }`,
  );
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const options = "--strict --noEmit --module esnext --moduleResolution bundler --target es2022 --types".split(" ");
  for (const condition of ["node", "browser"]) {
    const libraries = ["", "--lib", "es2022,dom,dom.asynciterable", "--customConditions", condition];
    const compiled = run(process.execPath, [tsc, ...options, ...libraries, "program.ts"], { cwd: folder });
    await compiled.catch((failed) => assert.fail(failed.stdout));
  }
});
