/**
 * What a client promises, against a real network. The list is run in Node and in Chromium, and is the same
 * as that of the Python client.
 */

import {
  AgentClient,
  BadUse,
  Closed,
  HandlerError,
  IdTaken,
  NoSuchAgent,
  NoSuchGroup,
  TakenOver,
  Timeout,
  TooLarge,
  TooMany,
  Unauthenticated,
  Unreachable,
  type AgentOptions,
  type ReceivedEvent,
  type SecretStore,
  type Status,
} from "@modvisor/client";

import { equal, ok, rejects } from "./claims.js";
import type { Lab } from "./lab.js";

/** What a case gets: the lab, agents whose clients are closed at the end, and a place for a secret. */
export class Bench {
  readonly #clients: AgentClient[] = [];

  constructor(
    readonly lab: Lab,
    /** Returns a store of its own for each name. */
    readonly store: (name: string) => SecretStore,
  ) {}

  /** Connect an agent, to the network itself or over a wire. */
  async agent(name: string, options: AgentOptions = {}, url?: string): Promise<AgentClient> {
    const client = new AgentClient(url ?? (await this.lab.url()), name, options);
    this.#clients.push(client);
    return await client.connect();
  }

  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
  }
}

export const cases: Record<string, (bench: Bench) => Promise<void>> = {
  async "an agent connects and leaves"(bench) {
    const bob = await bench.agent("c-bob");
    const alice = await bench.agent("c-alice", { metadata: { name: "Alice" } });
    equal([alice.networkName, alice.group, alice.isConnected], ["lab", null, true]);
    ok(await isThere(bob, "c-alice"), "alice is there");
    await alice.close();
    ok(!(await isThere(bob, "c-alice")), "alice is gone");
    await rejects(alice.send("lab.echo"), Closed);
  },

  async "an agent leaves by unregister"(bench) {
    const alice = await bench.agent("u-alice", { secretStore: bench.store("u-alice") });
    await alice.unregister();
    const again = await bench.agent("u-alice");
    ok(again.secret !== alice.secret, "the id was free");
  },

  async "an agent leaves by unregister over the next connection, if the first one is lost"(bench) {
    const wire = await bench.lab.wire();
    const store = bench.store("ul-alice");
    const alice = await bench.agent("ul-alice", { secretStore: store }, wire);
    await bench.lab.silence(wire);
    const left = alice.unregister();
    equal(await store.load(), alice.secret);
    await bench.lab.mend(wire);
    await bench.lab.cut(wire);
    await left;
    equal(await store.load(), null);
    ok(!(await isThere(await bench.agent("ul-bob"), "ul-alice")), "alice is gone");
  },

  async "an agent leaves by the event of that name, and is not registered again"(bench) {
    const alice = await bench.agent("ue-alice");
    equal((await alice.send("system.unregister_agent", { agent_id: "ue-alice" })).success, true);
    ok(!(await isThere(await bench.agent("ue-bob"), "ue-alice")), "alice is gone");
    await rejects(alice.send("lab.echo"), Closed);
  },

  async "an agent whose goodbye does not reach the network keeps its secret"(bench) {
    const wire = await bench.lab.wire();
    const store = bench.store("us-alice");
    const alice = await bench.agent("us-alice", { secretStore: store, reconnects: false }, wire);
    await bench.lab.silence(wire);
    const left = rejects(alice.unregister(), Unreachable);
    await bench.lab.cut(wire);
    await left;
    equal(await store.load(), alice.secret);
    equal((await bench.agent("us-alice", { secretStore: store })).secret, alice.secret);
  },

  async "an agent whose goodbye is refused keeps its secret"(bench) {
    const store = bench.store("uq-alice");
    const alice = await bench.agent("uq-alice", { secretStore: store, group: "paced", password: "open sesame" });
    while ((await alice.send("lab.echo")).error !== "too_many");
    await rejects(alice.unregister(), TooMany);
    equal(await store.load(), alice.secret);
  },

  async "a secret that is kept makes it the same agent again"(bench) {
    const store = bench.store("k-alice");
    const first = await bench.agent("k-alice", { secretStore: store });
    await first.join("k-channel");
    await first.close();
    const second = await bench.agent("k-alice", { secretStore: store });
    equal(second.secret, first.secret);
    equal(await second.members("k-channel"), ["k-alice"]);
  },

  async "a secret that the network does not know is replaced"(bench) {
    const store = bench.store("r-alice");
    await store.save("of another network");
    const alice = await bench.agent("r-alice", { secretStore: store });
    equal(await store.load(), alice.secret);
  },

  async "an id that a live agent has is refused"(bench) {
    await bench.agent("i-alice");
    await rejects(bench.agent("i-alice"), IdTaken);
  },

  async "a group takes its password, and no other"(bench) {
    const alice = await bench.agent("g-alice", { group: "members", password: "open sesame" });
    equal(alice.group, "members");
    await rejects(bench.agent("g-mallory", { group: "members", password: "guess" }), Unauthenticated);
  },

  async "an invitation lets an agent into a group, once"(bench) {
    const bob = await bench.agent("in-bob", { group: "members", password: "open sesame" });
    const { invite } = await bob.command<{ invite: string }>("invite", { agent_group: "members" });
    const alice = await bench.agent("in-alice", { invite });
    equal(alice.group, "members");
    await rejects(bench.agent("in-mallory", { invite }), Unauthenticated);
  },

  async "a network that is not there is unreachable"(bench) {
    const url = await bench.lab.nowhere();
    await rejects(bench.agent("alice", { connectTimeoutMs: 300 }, url), Unreachable);
  },

  async "an event is answered"(bench) {
    const alice = await bench.agent("a-alice");
    const response = await alice.send("lab.echo", { text: "hi" }, { eventId: "e1" });
    equal([response.success, response.message, response.data], [true, "echoed", { text: "hi" }]);
    equal([response.event_id, response.error], ["e1", null]);
  },

  async "an event that fails is a response, and an error of its code if it is a request"(bench) {
    const alice = await bench.agent("f-alice");
    equal((await alice.send("lab.refuse")).error, "no_such_group");
    const error = await rejects(alice.request("lab.refuse"), NoSuchGroup);
    equal([error.code, error.data.group, error.message], ["no_such_group", "x", "there is no such group"]);
    await rejects(alice.request("chat.message", {}, { to: "f-nobody" }), NoSuchAgent);
    equal((await alice.send("Not A Name")).error, "invalid_event");
  },

  async "an event that is too large is a response, too"(bench) {
    const alice = await bench.agent("tl-alice", { secretStore: bench.store("tl-alice") });
    const files = { file: new Blob(Array.from({ length: 65 }, () => new Uint8Array(1024 * 1024))) };
    equal((await alice.send("lab.digest", {}, { files })).error, "too_large");
    await rejects(alice.request("lab.digest", {}, { files }), TooLarge);
  },

  async "an event that is not answered in time is a timeout"(bench) {
    const alice = await bench.agent("t-alice");
    const late = await rejects(alice.request("lab.hold", { key: "t" }, { timeoutMs: 100 }), Timeout);
    equal(late.code, "timeout");
    const caller = new AbortController();
    const held = alice.send("lab.hold", { key: "t" }, { signal: caller.signal });
    caller.abort(new Error("the caller gave up"));
    equal((await rejects(held, Error)).message, "the caller gave up");
  },

  async "many events are under way at once"(bench) {
    const alice = await bench.agent("m-alice");
    const numbers = Array.from({ length: 600 }, (_, number) => number);
    const answers = await Promise.all(numbers.map((number) => alice.request("lab.echo", { number })));
    equal(
      answers,
      numbers.map((number) => ({ number })),
    );
  },

  async "msgpack carries bytes, JSON does not"(bench) {
    const alice = await bench.agent("b-alice");
    const file = new Uint8Array([0, 1, 255]);
    equal(await alice.request("lab.echo", { file }), { file });
    equal(await alice.request("lab.values"), {
      bytes: new Uint8Array([104, 105]),
      when: new Date("2026-01-31T12:00:00Z"),
      none: null,
    });
    const bob = await bench.agent("b-bob", { format: "json" });
    equal(await bob.request("lab.echo", { text: "ü", left: undefined }), { text: "ü" });
    await rejects(bob.send("lab.echo", { file }), BadUse);
  },

  async "no event stops those behind it, whatever it holds"(bench) {
    const [alice, bob] = [await bench.agent("odd-alice"), await bench.agent("odd-bob")];
    const events = bob.events();
    await alice.send("chat.message", JSON.parse('{"__proto__": {"evil": true}, "constructor": 1}'), { to: "odd-bob" });
    await alice.send("chat.message", { text: "hi" }, { to: "odd-bob" });
    const [odd, plain] = await first(2, events);
    equal([Object.keys(odd!.payload), "evil" in odd!.payload], [["__proto", "constructor"], false]);
    equal(plain!.payload, { text: "hi" });
  },

  async "large payloads and files arrive whole"(bench) {
    const alice = await bench.agent("l-alice", { secretStore: bench.store("l-alice") });
    const large = new Uint8Array(3_000_000).map((_, index) => index % 251);
    const expected = { size: large.length, sha256: await sha256(large) };
    equal(await alice.request("lab.digest", { large }), { large: expected });
    const files = { file: new Blob([large]), small: new Blob(["hi"]) };
    const small = { size: 2, sha256: await sha256(new TextEncoder().encode("hi")) };
    equal(await alice.request("lab.digest", {}, { files }), { file: expected, small });
  },

  async "events come by patterns, in order"(bench) {
    const [alice, bob] = [await bench.agent("e-alice"), await bench.agent("e-bob")];
    const [chat, news] = [bob.events("chat.*"), bob.events(["news.world.new", "news.local.*"])];
    for (const name of ["chat.message", "news.world.new", "news.world.old", "chat.room.left", "news.local.new"]) {
      await alice.send(name, {}, { to: "e-bob" });
    }
    equal(names(await first(2, chat)), ["chat.message", "chat.room.left"]);
    equal(names(await first(2, news)), ["news.world.new", "news.local.new"]);
    equal(bob.unclaimed, 1);
  },

  async "handlers get events by patterns, one after the other"(bench) {
    const [alice, bob] = [await bench.agent("h-alice"), await bench.agent("h-bob")];
    const seen: unknown[] = [];
    const handled = new Counter();
    let running = 0;
    const stop = bob.on("chat.*", async ({ payload }) => {
      running += 1;
      await bob.request("lab.echo");
      seen.push([payload.number, running]);
      running -= 1;
      handled.add();
    });
    const all = bob.events();
    for (let number = 1; number <= 3; number += 1) await alice.send("chat.message", { number }, { to: "h-bob" });
    await handled.until(3);
    stop();
    await alice.send("chat.message", { number: 4 }, { to: "h-bob" });
    equal((await first(4, all)).at(-1)?.payload, { number: 4 });
    equal(seen, [
      [1, 1],
      [2, 1],
      [3, 1],
    ]);
  },

  async "events wait for the first who wants events"(bench) {
    const [alice, bob] = [await bench.agent("w-alice"), await bench.agent("w-bob")];
    await alice.send("chat.message", { number: 1 }, { to: "w-bob" });
    await bob.request("lab.echo"); // what was pushed before its answer is here
    equal((await first(1, bob.events("chat.*")))[0]?.payload, { number: 1 });
  },

  async "an agent replies to a request"(bench) {
    const [alice, bob] = [await bench.agent("p-alice"), await bench.agent("p-bob", { onError: () => {} })];
    bob.on("math.double", ({ payload }) => ({ number: Number(payload.number) * 2 }));
    bob.on("math.fail", () => {
      throw new Error("no numbers today");
    });
    equal(await alice.request("math.double", { number: 21 }, { to: "p-bob" }), { number: 42 });
    const error = await rejects(alice.request("math.fail", {}, { to: "p-bob" }), HandlerError);
    ok(error.message.includes("no numbers today"), "the error says why");
  },

  async "channels and subscriptions choose what comes"(bench) {
    const [alice, bob] = [await bench.agent("s-alice"), await bench.agent("s-bob")];
    await bob.join("s-channel");
    equal(await bob.members("s-channel"), ["s-bob"]);
    const subscription = await bob.subscribe(["chat.*"]);
    const events = bob.events();
    for (const name of ["news.world.new", "chat.message"]) await alice.send(name, {}, { to: "channel:s-channel" });
    await bob.unsubscribe(subscription);
    await alice.send("news.world.old", {}, { to: "channel:s-channel" });
    equal(names(await first(2, events)), ["chat.message", "news.world.old"]);
    await bob.part("s-channel");
    ok(!(await bob.members("s-channel").catch(() => [] as string[])).includes("s-bob"), "bob has left");
  },

  async "an event names the span that it is sent in, unless its metadata does"(bench) {
    const span = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const spans = [span, undefined, span];
    const alice = await bench.agent("tp-alice", { traceparent: () => spans.shift() });
    const bob = await bench.agent("tp-bob");
    await alice.send("chat.line.said", {}, { to: "tp-bob", metadata: { own: 1 } });
    await alice.send("chat.line.said", {}, { to: "tp-bob" });
    await alice.send("chat.line.said", {}, { to: "tp-bob", metadata: { traceparent: "mine" } });
    const got: unknown[] = [];
    for await (const { metadata } of bob.events()) if (got.push(metadata?.["traceparent"]) === 3) break;
    equal(got, [span, undefined, "mine"]);
  },

  async "a connection that is lost is resumed, and no event is lost or repeated"(bench) {
    const wire = await bench.lab.wire();
    const [alice, bob] = [await bench.agent("x-alice"), await bench.agent("x-bob", { window: 16 }, wire)];
    const count = 200;
    const sent = sendNumbers(alice, "x-bob", count);
    const got: unknown[] = [];
    for await (const { payload } of bob.events()) {
      got.push(payload.number);
      if (got.length % 40 === 7) await bench.lab.cut(wire);
      if (got.length === count) break;
    }
    await sent;
    equal(got, numbersUpTo(count));
    await bob.request("lab.echo"); // what would be repeated comes before
    equal(bob.unclaimed, 0);
  },

  async "an event that is sent over a connection that is lost is handled once"(bench) {
    const wire = await bench.lab.wire();
    const [alice, bob] = [await bench.agent("o-alice", {}, wire), await bench.agent("o-bob")];
    const held = alice.request("lab.hold", { key: "o" });
    await bob.request("lab.began", { key: "o" });
    await bench.lab.cut(wire);
    await alice.request("lab.echo"); // over the next connection
    await bob.request("lab.release", { key: "o" });
    equal(await held, { count: 1 });
  },

  async "a network that was restarted is joined again"(bench) {
    const statuses: Status[] = [];
    const onStatus = (status: Status) => void statuses.push(status);
    const [alice, bob] = [await bench.agent("j-alice", { onStatus }), await bench.agent("j-bob")];
    await bench.lab.restart();
    for (const agent of [alice, bob]) agent.reconnect(); // instead of waiting for the next attempt
    const events = bob.events();
    await bob.request("lab.echo");
    equal((await alice.send("chat.message", {}, { to: "j-bob" })).delivered, 1);
    equal(names(await first(1, events)), ["chat.message"]);
    equal(statuses.slice(0, 3), ["connected", "reconnecting", "connected"]);
  },

  async "a newer connection of the same agent takes over"(bench) {
    const store = bench.store("n-alice");
    const older = await bench.agent("n-alice", { secretStore: store });
    const waiting = older.events().next();
    const newer = await bench.agent("n-alice", { secretStore: store });
    await rejects(waiting, TakenOver);
    await rejects(older.send("lab.echo"), TakenOver);
    equal((await newer.send("lab.echo")).success, true);
  },

  async "a connection that is dead is noticed"(bench) {
    const wire = await bench.lab.wire();
    const lost = new Counter();
    const onStatus = (status: Status) => void (status === "reconnecting" && lost.add());
    const alice = await bench.agent("d-alice", { onStatus }, wire);
    await bench.lab.silence(wire);
    await lost.until(1);
    await bench.lab.mend(wire);
    equal((await alice.send("lab.echo")).success, true);
  },

  async "who does not read gets no more than the credit"(bench) {
    const wire = await bench.lab.wire();
    const [alice, bob] = [await bench.agent("q-alice"), await bench.agent("q-bob", { window: 4 }, wire)];
    const events = bob.events();
    const text = "x".repeat(50_000);
    const count = 40;
    await Promise.all(
      numbersUpTo(count).map((number) => alice.send("chat.message", { number, text }, { to: "q-bob" })),
    );
    await bob.request("lab.echo");
    const received = await bench.lab.received(wire);
    ok(received < 7 * text.length, `four events came, not ${received} bytes`);
    equal(
      (await first(count, events)).map(({ payload }) => payload.number).sort((a, b) => Number(a) - Number(b)),
      numbersUpTo(count),
    );
  },

  async "a client that is closed ends its iterators, and what they have not seen stays in the inbox"(bench) {
    const store = bench.store("z-bob");
    const [alice, bob] = [await bench.agent("z-alice"), await bench.agent("z-bob", { secretStore: store })];
    const events = bob.events();
    for (const number of [1, 2, 3]) await alice.send("chat.message", { number }, { to: "z-bob" });
    equal((await first(2, events)).length, 2); // the second is in hand
    await bob.close();
    equal(await events.next(), { done: true, value: undefined });
    const again = await bench.agent("z-bob", { secretStore: store });
    equal((await first(1, again.events()))[0]?.payload, { number: 3 });
  },

  async "a handler may end its event when the client is closed"(bench) {
    const store = bench.store("y-bob");
    const [alice, bob] = [await bench.agent("y-alice"), await bench.agent("y-bob", { secretStore: store })];
    const begun = new Counter();
    bob.on("chat.*", async () => {
      begun.add();
      return await bob.request("lab.hold", { key: "y" });
    });
    const asked = alice.request("chat.message", {}, { to: "y-bob" });
    await begun.until(1);
    await alice.request("lab.began", { key: "y" });
    const closed = bob.close();
    await alice.request("lab.release", { key: "y" });
    equal(await asked, { count: 1 });
    await closed;
    await rejects(bob.send("lab.echo"), Closed);
  },

  async "without reconnecting the first loss is the end"(bench) {
    const wire = await bench.lab.wire();
    const alice = await bench.agent("v-alice", { reconnects: false }, wire);
    const held = alice.send("lab.hold", { key: "v" });
    await bench.lab.cut(wire);
    await rejects(held, Unreachable);
    await rejects(alice.ended(), Unreachable);
  },

  async "an agent that was removed registers again"(bench) {
    const statuses = new Counter();
    const onStatus = (status: Status) => void (status === "connected" && statuses.add());
    const alice = await bench.agent("rm-alice", { onStatus });
    const bob = await bench.agent("rm-bob", { group: "members", password: "open sesame" });
    const { secret } = alice;
    await bob.command("unregister_agent", { agent_id: "rm-alice" });
    await statuses.until(2);
    equal((await alice.send("lab.echo")).success, true);
    ok(alice.secret !== secret, "it has a new secret");
  },
};

/** Counts what happened, for somebody who waits for it. */
class Counter {
  #count = 0;
  #wanted = 0;
  #resolve = (): void => {};

  readonly add = (): void => {
    this.#count += 1;
    if (this.#count === this.#wanted) this.#resolve();
  };

  async until(count: number): Promise<void> {
    this.#wanted = count;
    if (this.#count < count) await new Promise<void>((resolve) => (this.#resolve = resolve));
  }
}

async function sendNumbers(client: AgentClient, to: string, count: number): Promise<void> {
  for (const number of numbersUpTo(count)) await client.send("chat.message", { number }, { to });
}

function numbersUpTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

/** Return the next events; the last one is in hand, and not handled. */
async function first(count: number, events: AsyncIterator<ReceivedEvent, undefined>): Promise<ReceivedEvent[]> {
  const found: ReceivedEvent[] = [];
  while (found.length < count) {
    const { value } = await events.next();
    if (value === undefined) throw new Error(`the events ended after ${found.length} of ${count}`);
    found.push(value);
  }
  return found;
}

function names(events: readonly ReceivedEvent[]): string[] {
  return events.map((event) => event.event_name);
}

async function isThere(client: AgentClient, agentId: string): Promise<boolean> {
  return (await client.agents()).some((agent) => agent.agent_id === agentId);
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
