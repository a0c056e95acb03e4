/** Who gets which event, and when it is handled. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Consumers } from "../../src/consumers.js";
import { EventHandler, EventIterator } from "../../src/iteration.js";
import type { Held } from "../../src/stream.js";
import type { ReceivedEvent } from "../../src/wire.js";

test("an event is handled when all who wanted it are done with it", async () => {
  const { consumers, handled } = newConsumers();
  const [one, two] = [stream(consumers, "chat.*"), stream(consumers, "*")];
  consumers.offer([held("chat.message")]);
  await one.next();
  await two.next();
  void one.next();
  assert.deepEqual(handled, []);
  await two.return();
  assert.deepEqual(handled, ["chat.message"]);
});

test("an event that nobody wants is handled, once there is anybody", async () => {
  const { consumers, handled } = newConsumers();
  consumers.offer([held("news.new")]);
  assert.deepEqual(handled, []);
  stream(consumers, "chat.*");
  await Promise.resolve();
  assert.deepEqual([handled, consumers.unclaimed], [["news.new"], 1]);
});

test("several who come in a row all see what waited", async () => {
  const { consumers } = newConsumers();
  consumers.offer([held("chat.one"), held("news.one")]);
  const [chat, news] = [stream(consumers, "chat.*"), stream(consumers, "news.*")];
  assert.equal((await chat.next()).value?.event_name, "chat.one");
  assert.equal((await news.next()).value?.event_name, "news.one");
});

test("what a stream leaves waits for the next one if nobody else is there", async () => {
  const { consumers, handled } = newConsumers();
  const first = stream(consumers, "*");
  consumers.offer([held("a.one"), held("a.two")]);
  await first.next();
  await first.return();
  assert.deepEqual(handled, ["a.one"]);
  assert.equal((await stream(consumers, "*").next()).value?.event_name, "a.two");
});

test("what a stream leaves does not hold up the others", async () => {
  const { consumers, handled } = newConsumers();
  const [leaving, other] = [stream(consumers, "*"), stream(consumers, "news.*")];
  consumers.offer([held("a.one"), held("news.one")]);
  await leaving.return();
  assert.deepEqual(handled, ["a.one"]);
  await other.next();
  await other.return();
  assert.deepEqual(handled, ["a.one", "news.one"]);
});

test("after the end nothing is handed out, and nothing is handled", async () => {
  const { consumers, handled } = newConsumers();
  const called: string[] = [];
  const events = stream(consumers, "*");
  consumers.add(new EventHandler(["*"], consumers, 1, async (event) => void called.push(event.event_name)));
  consumers.offer([held("a.one")]);
  await consumers.finish();
  assert.deepEqual([handled, called], [[], ["a.one"]]);
  consumers.offer([held("a.two")]);
  assert.deepEqual(await events.next(), { done: true, value: undefined });
  assert.deepEqual([handled, called], [[], ["a.one"]]);
});

test("an error ends all iterators, and is told once", async () => {
  const { consumers } = newConsumers();
  const [events, other] = [stream(consumers, "*"), stream(consumers, "*")];
  const waiting = events.next();
  consumers.end(new Error("the end"));
  await assert.rejects(waiting, /the end/);
  assert.equal((await events.next()).done, true);
  await assert.rejects(other.next(), /the end/);
  await assert.rejects(stream(consumers, "*").next(), /the end/);
});

test("a handler has as many events at once as it may", async () => {
  const { consumers } = newConsumers();
  const begun: string[] = [];
  const release: (() => void)[] = [];
  const handle = async (event: ReceivedEvent) => {
    begun.push(event.event_name);
    await new Promise<void>((resolve) => release.push(resolve));
  };
  consumers.add(new EventHandler(["*"], consumers, 2, handle));
  consumers.offer(["a.one", "a.two", "a.three"].map(held));
  assert.deepEqual(begun, ["a.one", "a.two"]);
  release[1]!();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(begun, ["a.one", "a.two", "a.three"]);
  release.forEach((resolve) => resolve());
  await consumers.finish();
});

function newConsumers(): { consumers: Consumers; handled: string[] } {
  const handled: string[] = [];
  return { consumers: new Consumers((held) => handled.push(held.event.event_name)), handled };
}

function stream(consumers: Consumers, pattern: string): EventIterator {
  const iterator = new EventIterator([pattern], consumers);
  consumers.add(iterator);
  return iterator;
}

function held(name: string): Held {
  const event = { event_name: name, event_id: name } as ReceivedEvent;
  return { event, cursor: name, isHandled: false, isCharged: true, takers: 0 };
}
