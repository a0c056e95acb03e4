/** A program that reaches a network with TLS. Which certificates Node trusts is settled when a process begins. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Network } from "./network.js";
import { run } from "./programs.js";

const SECURE = `
import { AgentClient } from "@modvisor/client";

const alice = await AgentClient.connect(process.env.MODVISOR_URL, "alice", {
  connectTimeoutMs: Number(process.env.PATIENCE),
});
const large = new Uint8Array(2_000_000); // goes by HTTP
const digest = await alice.request("lab.digest", { large });
console.log((await alice.request("lab.echo", { text: "hi" })).text, digest.large.size);
await alice.close();
`;

test("a network with TLS is reached by who trusts its certificate", { timeout: 30_000 }, async () => {
  const network = await Network.start({ withTls: true });
  const stranger = { MODVISOR_URL: network.url, PATIENCE: "300" };
  const friend = { ...stranger, PATIENCE: "10000", NODE_EXTRA_CA_CERTS: network.authority };
  try {
    assert.match(network.url, /^https:/);
    assert.equal(await run("secure", SECURE, friend), "hi 2000000\n");
    const failed = await run("stranger", SECURE, stranger).catch((error) => error.stderr);
    assert.match(failed, /Unreachable/);
  } finally {
    await network.stop();
  }
});
