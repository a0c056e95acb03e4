/** The stream of held events against a model of the network's inbox, over random histories with lost messages. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Stream, type Held } from "../../src/stream.js";
import type { Pushed, ReceivedEvent } from "../../src/wire.js";

const WINDOW = 8;

test("every event is handed out once and in order, whatever is lost, and never more than the credit allows", () => {
  for (let seed = 1; seed <= 300; seed += 1) playHistory(seed, 60);
});

test("an event that was handled before its repeat came gives its credit back when the repeat comes", () => {
  const stream = new Stream(2);
  stream.welcome(false, "a.0");
  const [held] = stream.push([pushed("a.1", "e1")]);
  stream.reconnect();
  stream.welcome(true, "a.0");
  stream.handled(held!);
  assert.deepEqual(stream.settle(), { cursor: "a.1", credit: 0 });
  assert.deepEqual(stream.push([pushed("a.1", "e1")]), []);
  assert.deepEqual(stream.settle(), { cursor: null, credit: 1 });
});

test("an event that takes long does not stop those behind it, up to a limit", () => {
  const stream = new Stream(1);
  stream.welcome(false, "a.0");
  const [slow] = stream.push([pushed("a.1", "e1")]);
  let credit = 0;
  for (let number = 2; number <= 100; number += 1) {
    stream.handled(stream.push([pushed(`a.${number}`, `e${number}`)])[0]!);
    const due = stream.settle();
    credit += due?.credit ?? 0;
    assert.equal(due?.cursor ?? null, null);
  }
  assert.equal(credit, 62);
  stream.handled(slow!);
  assert.deepEqual(stream.settle(), { cursor: "a.100", credit: 38 });
});

test("after a restart of the network the events that are held are known by their ids", () => {
  const stream = new Stream(4);
  stream.welcome(false, "a.0");
  const [first] = stream.push([pushed("a.7", "e1")]);
  stream.reconnect();
  stream.welcome(false, "b.0");
  const fresh = stream.push([pushed("b.1", "e1"), pushed("b.2", "e2")]);
  assert.deepEqual(
    fresh.map((held) => held.event.event_id),
    ["e2"],
  );
  stream.handled(fresh[0]!);
  assert.deepEqual(stream.settle(), { cursor: null, credit: 1 }); // the first is not handled yet
  stream.handled(first!);
  assert.deepEqual(stream.settle(), { cursor: "b.2", credit: 1 });
});

test("an event that cannot come takes its place and its credit", () => {
  const stream = new Stream(2);
  stream.welcome(false, "a.0");
  assert.deepEqual(
    stream.push([{ cursor: "a.1", undeliverable: { event_id: "e1", event_name: "a.b", error: "why" } }]),
    [],
  );
  assert.deepEqual(stream.settle(), { cursor: "a.1", credit: 1 });
});

test("acknowledgements wait for a quarter of the window while something is being handled", () => {
  const stream = new Stream(8);
  stream.welcome(false, "a.0");
  const held = stream.push([1, 2, 3, 4].map((number) => pushed(`a.${number}`, `e${number}`)));
  stream.handled(held[0]!);
  assert.equal(stream.due(), null);
  stream.handled(held[1]!);
  assert.deepEqual(stream.due(), { cursor: "a.2", credit: 2 });
  stream.handled(held[3]!);
  assert.equal(stream.due(), null);
  stream.handled(held[2]!);
  assert.deepEqual(stream.due(), { cursor: "a.4", credit: 2 });
});

function playHistory(seed: number, steps: number): void {
  const dice = diceOf(seed);
  const network = new ModelNetwork();
  const stream = new Stream(WINDOW);
  const got: number[] = [];
  let beingHandled: Held[] = [];

  const receive = () => {
    for (const held of stream.push(network.take(1 + dice(4)))) {
      got.push(Number(held.event.event_id));
      beingHandled.push(held);
    }
    assert.ok(stream.unhandled <= WINDOW, `seed ${seed}: ${stream.unhandled} events are not handled`);
  };
  const handleOne = () => {
    const [held] = beingHandled.splice(dice(beingHandled.length), 1);
    if (held !== undefined) stream.handled(held);
  };
  const tell = (due: ReturnType<Stream["settle"]>) => {
    if (due !== null && dice(4) > 0)
      network.acknowledge(due.cursor, due.credit); // else the connection breaks before
    else if (due !== null) breakConnection();
  };
  const settle = () => {
    const due = stream.settle();
    if (due !== null) network.acknowledge(due.cursor, due.credit);
  };
  const breakConnection = () => {
    stream.reconnect();
    const [cursor, isResumed] = network.greet(stream.cursor, WINDOW);
    for (let meanwhile = dice(3); meanwhile > 0; meanwhile -= 1) handleOne();
    stream.welcome(isResumed, cursor);
  };

  breakConnection();
  for (let step = 0; step < steps; step += 1) {
    [() => network.deliver(1 + dice(4)), receive, receive, handleOne, () => tell(stream.due()), breakConnection][
      dice(step % 5 === 0 ? 6 : 5)
    ]!();
  }
  while (got.length < network.delivered || beingHandled.length > 0) {
    receive();
    while (beingHandled.length > 0) handleOne();
    settle();
  }
  settle();
  assert.deepEqual(
    got,
    Array.from({ length: network.delivered }, (_, index) => index + 1),
    `seed ${seed}`,
  );
  assert.equal(network.waiting, 0, `seed ${seed}`);
}

/** An inbox as the network keeps it: pushed events stay until they are acknowledged. */
class ModelNetwork {
  delivered = 0;
  #acknowledged = 0;
  #pushedUpTo = 0;
  #credit = 0;

  get waiting(): number {
    return this.delivered - this.#acknowledged;
  }

  deliver(count: number): void {
    this.delivered += count;
  }

  greet(cursor: string | null, credit: number): [string, boolean] {
    if (cursor !== null) this.#drop(cursor);
    this.#pushedUpTo = this.#acknowledged;
    this.#credit = credit;
    return [`a.${this.#acknowledged}`, cursor !== null];
  }

  acknowledge(cursor: string | null, credit: number): void {
    if (cursor !== null) this.#drop(cursor);
    this.#pushedUpTo = Math.max(this.#pushedUpTo, this.#acknowledged);
    this.#credit += credit;
    assert.ok(this.#credit <= WINDOW, `credit ${this.#credit}`);
  }

  take(most: number): Pushed[] {
    const count = Math.min(most, this.#credit, this.delivered - this.#pushedUpTo);
    const first = this.#pushedUpTo + 1;
    this.#pushedUpTo += count;
    this.#credit -= count;
    return Array.from({ length: count }, (_, index) => pushed(`a.${first + index}`, `${first + index}`));
  }

  #drop(cursor: string): void {
    this.#acknowledged = Math.max(this.#acknowledged, Number(cursor.slice(2)));
  }
}

function pushed(cursor: string, eventId: string): Pushed {
  return { cursor, event: { event_name: "a.b", event_id: eventId } as ReceivedEvent };
}

/** Return a function that returns whole numbers below its argument: the same ones for the same seed. */
function diceOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
