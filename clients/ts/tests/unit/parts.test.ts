/** The small parts: addresses, patterns, waits, responses, bodies of large events. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { decode } from "@msgpack/msgpack";

import { parseAddress } from "../../src/address.js";
import { Backoff } from "../../src/backoff.js";
import { codecOf } from "../../src/codec.js";
import { BadUse, errorOf, NetworkError, NoSuchMod, TooMany } from "../../src/errors.js";
import { bodyOf } from "../../src/large.js";
import { checkPatterns, matches } from "../../src/patterns.js";
import { EventResponse } from "../../src/response.js";
import { passwordHash } from "../../src/secrets.js";

test("addresses are taken as users write them", () => {
  const http = { ws: "ws://localhost:8700/ws", http: "http://localhost:8700" };
  for (const url of ["localhost:8700", "http://localhost:8700/", "ws://localhost:8700"]) {
    assert.deepEqual(parseAddress(url), http);
  }
  assert.deepEqual(parseAddress("https://example.com/net/"), {
    ws: "wss://example.com/net/ws",
    http: "https://example.com/net",
  });
  assert.equal(parseAddress("http://[::1]:8700").ws, "ws://[::1]:8700/ws");
  for (const url of ["", "ftp://x", "http://", "http://a?b", "http://user@a", "http://a:b"]) {
    assert.throws(() => parseAddress(url), BadUse, url);
  }
});

test("patterns match as the network's do", () => {
  assert.ok(matches("*", "a.b") && matches("a.*", "a.b.c") && matches("a.b", "a.b"));
  assert.ok(!matches("a.*", "a") && !matches("a.*", "ab.c") && !matches("a.b", "a.b.c"));
  assert.deepEqual(checkPatterns([]), ["*"]);
  for (const wrong of ["", "a", "A.b", "a.*.b", "*.a", "a."])
    assert.throws(() => checkPatterns([wrong]), BadUse, wrong);
});

test("waits double up to ten seconds, and begin anew", () => {
  const backoff = new Backoff(() => 1);
  const waits = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
  backoff.reset();
  assert.equal(backoff.next(), 100);
  assert.equal(new Backoff(() => 0).next(), 50);
});

test("a failure becomes the error of its code", () => {
  const data = { error: "no_such_mod", mod: "wiki" };
  const response = new EventResponse({ success: false, message: "no mod 'wiki'", data });
  assert.throws(
    () => response.check(),
    (error) => error instanceof NoSuchMod && error.code === "no_such_mod" && error.data.mod === "wiki",
  );
  assert.ok(errorOf("too_many", "", { retry_after: 2 }) instanceof TooMany);
  const unknown = errorOf("of_a_mod", "its own");
  assert.ok(unknown instanceof NetworkError && unknown.code === "of_a_mod");
});

test("a delivery is told from an answer", () => {
  const delivered = (data: unknown) => new EventResponse({ success: true, message: "", data }).delivered;
  assert.deepEqual(
    [{ delivered: 2 }, { delivered: 2, more: 1 }, { delivered: "2" }, null, [1], "text"].map(delivered),
    [2, null, null, null, null, null],
  );
});

test("bytes travel in msgpack, and are refused in JSON", () => {
  const event = { event_name: "a.b", event_id: "e1", payload: { file: new Uint8Array([1]), left: undefined } };
  const frame = { type: "send", id: 1, event } as const;
  const bytes = codecOf("msgpack").pack(frame) as Uint8Array;
  assert.deepEqual(decode(bytes), { ...frame, event: { ...event, payload: { file: new Uint8Array([1]) } } });
  assert.throws(() => codecOf("json").pack(frame), BadUse);
  assert.throws(() => codecOf("msgpack").pack({ ...frame, event: { ...event, payload: { f: () => 1 } } }), BadUse);
});

test("the body of a large event is one msgpack map, whatever its size", async () => {
  for (const size of [0, 255, 65_535, 65_536, 3_000_000]) {
    const file = new Uint8Array(size).fill(7);
    const payload = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`key${index}`, index]));
    const event = { event_name: "a.b", event_id: "e1", payload };
    const body = bodyOf(event, { file: new Blob([file]) }, { agentId: "alice", secret: "s" });
    const expected = {
      event_name: "a.b",
      event_id: "e1",
      source_id: "alice",
      secret: "s",
      payload: { ...payload, file },
    };
    assert.deepEqual(decode(await body.arrayBuffer()), expected);
  }
});

test("a password is hashed as the network expects", async () => {
  assert.equal(await passwordHash("open sesame"), "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb");
});
