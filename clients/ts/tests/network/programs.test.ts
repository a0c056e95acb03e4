/** Programs in processes of their own: the one in the README, and one that reaches a network with TLS. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Network } from "./network.js";

const ROOT = new URL("../../../", import.meta.url);

const SECURE = `
import { AgentClient } from "@modvisor/client";

const alice = await AgentClient.connect(process.env.MODVISOR_URL, "alice", { connectTimeoutMs: 3000 });
const large = new Uint8Array(2_000_000); // goes by HTTP
const digest = await alice.request("lab.digest", { large });
console.log((await alice.request("lab.echo", { text: "hi" })).text, digest.large.size);
await alice.close();
`;

test("the program in the README does what the README says", { timeout: 30_000 }, async () => {
  const readme = await readFile(new URL("README.md", ROOT), "utf8");
  const [program, output] = ["js", "text"].map(
    (language) => readme.split("```" + language + "\n")[1]!.split("```")[0]!,
  );
  const network = await Network.start();
  try {
    assert.equal(await run("readme", program!, { MODVISOR_URL: network.url }), output);
  } finally {
    await network.stop();
  }
});

test("a network with TLS is reached by who trusts its certificate", { timeout: 30_000 }, async () => {
  const network = await Network.start({ withTls: true });
  const env = { MODVISOR_URL: network.url, NODE_EXTRA_CA_CERTS: network.authority };
  try {
    assert.match(network.url, /^https:/);
    assert.equal(await run("secure", SECURE, env), "hi 2000000\n");
    const failed = await run("stranger", SECURE, { MODVISOR_URL: network.url }).catch((error) => error.stderr);
    assert.match(failed, /Unreachable/);
  } finally {
    await network.stop();
  }
});

/** Run a program in a file of the package; return what it prints. */
async function run(name: string, program: string, env: Record<string, string>): Promise<string> {
  const path = fileURLToPath(new URL(`build/${name}.js`, ROOT));
  await writeFile(path, program);
  const given = { env: { ...process.env, ...env }, timeout: 20_000 };
  return (await promisify(execFile)(process.execPath, [path], given)).stdout;
}
