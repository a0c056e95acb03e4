/**
 * The events that the network has pushed and that are not acknowledged yet. Pure: no socket, no clock.
 *
 * The network keeps a pushed event in the agent's inbox until its cursor is acknowledged. It pushes no
 * more events than it has credit for: `window` of them that are not handled.
 *
 * - Events are *held* in the order of the stream until all events up to them are handled. Then the
 *   cursor of the last one is acknowledged. Credit comes back for each event that is handled, so that
 *   one that takes long does not stop those behind it.
 * - A new connection begins with a full window of credit. The network pushes again what it has no
 *   acknowledgement for. Such a *repeat* is known by its cursor, or by its source and id if the cursors
 *   are of another epoch (the network was restarted). It is not handed out twice.
 * - A repeat costs credit, as every push does. An event that was handled before its repeat came may
 *   never come again, because its acknowledgement was faster; then it gives no credit back.
 */

import type { Pushed, ReceivedEvent } from "./wire.js";

/** An event that is held. */
export interface Held {
  readonly event: ReceivedEvent;
  cursor: string;
  isHandled: boolean;
  /** Whether the network has spent credit on it, on this connection. */
  isCharged: boolean;
  /** How many handlers and iterators have it. */
  takers: number;
}

/** What to tell the network: up to which cursor all is handled (null: nothing new), and how much credit it gets. */
export interface Due {
  cursor: string | null;
  credit: number;
}

/** Times the window: handled events behind one that is not, which are remembered. */
const MOST_HELD = 64;
const NOTHING = { event_id: "" } as ReceivedEvent;

export class Stream {
  /** In the order of the stream. The first one is not handled. */
  #line: Held[] = [];
  #unhandled = 0;
  /** What may come again on this connection, by cursor or by event id. */
  #again = new Map<string, Held>();
  #isSameEpoch = true;
  #handledUpTo: string | null = null;
  #isAckDue = false;
  #credit = 0;

  constructor(readonly window: number) {}

  /** How many events are not handled. */
  get unhandled(): number {
    return this.#unhandled;
  }

  /** The cursor of the last event up to which all are handled; null: none yet. */
  get cursor(): string | null {
    return this.#handledUpTo;
  }

  /** Prepare for a new connection, which is greeted with `cursor` and a full window of credit. */
  reconnect(): void {
    this.#credit = 0;
    this.#isAckDue = false;
    for (const held of this.#line) held.isCharged = false;
    this.#again = new Map(this.#line.map((held) => [held.cursor, held]));
    this.#isSameEpoch = true;
  }

  /** Note where the stream of the new connection stands. */
  welcome(isResumed: boolean, cursor: string): void {
    if (isResumed) {
      this.#handledUpTo ??= cursor;
      return;
    }
    // The old cursors mean nothing any more: what is held is handled, and never acknowledged.
    this.#isSameEpoch = false;
    this.#handledUpTo = cursor;
    this.#isAckDue = false;
    this.#again = new Map(this.#line.map((held) => [keyOf(held.event), held]));
    this.#line = [];
  }

  /** Take a push; return the events that are new. */
  push(pushed: readonly Pushed[]): Held[] {
    const fresh: Held[] = [];
    for (const item of pushed) {
      const known = this.#repeated(item.cursor, item.event);
      if (known !== undefined) this.#charge(known, item.cursor);
      else if (item.event !== undefined) fresh.push(this.#hold(item.cursor, item.event));
      else this.handled(this.#hold(item.cursor, NOTHING)); // the event cannot come: only its place counts
    }
    return fresh;
  }

  /** Note that an event is handled. */
  handled(held: Held): void {
    held.isHandled = true;
    this.#unhandled -= 1;
    if (held.isCharged && this.#line.length < this.window * MOST_HELD) this.#giveBack(held);
    this.#advance();
  }

  /**
   * Return what to tell the network, or null if it can wait: a quarter of the window is worth a message,
   * and so is less if nothing is being handled.
   */
  due(): Due | null {
    const isWorthwhile = this.#credit * 4 >= this.window || this.#unhandled === 0;
    return isWorthwhile ? this.settle() : null;
  }

  /** Return what to tell the network before the connection is left, or null if it knows all. */
  settle(): Due | null {
    if (!this.#isAckDue && this.#credit === 0) return null;
    const due = { cursor: this.#isAckDue ? this.#handledUpTo : null, credit: this.#credit };
    this.#isAckDue = false;
    this.#credit = 0;
    return due;
  }

  #repeated(cursor: string, event: ReceivedEvent | undefined): Held | undefined {
    if (this.#again.size === 0) return undefined;
    const key = this.#isSameEpoch ? cursor : keyOf(event ?? NOTHING);
    const known = this.#again.get(key);
    if (known !== undefined) this.#again.delete(key);
    else if (this.#isSameEpoch) this.#again.clear(); // repeats come first, in order: none is left
    return known;
  }

  #charge(held: Held, cursor: string): void {
    held.isCharged = true;
    if (held.isHandled) this.#giveBack(held);
    if (this.#isSameEpoch) return;
    held.cursor = cursor; // it has a place in the new stream
    this.#line.push(held);
    this.#advance();
  }

  #giveBack(held: Held): void {
    held.isCharged = false;
    this.#credit += 1;
  }

  #hold(cursor: string, event: ReceivedEvent): Held {
    const held = { event, cursor, isHandled: false, isCharged: true, takers: 0 };
    this.#line.push(held);
    this.#unhandled += 1;
    return held;
  }

  #advance(): void {
    let done = 0;
    for (const held of this.#line) {
      if (!held.isHandled) break;
      this.#handledUpTo = held.cursor;
      if (held.isCharged) this.#giveBack(held);
      done += 1;
    }
    if (done > 0) {
      this.#line.splice(0, done);
      this.#isAckDue = true;
    }
  }
}

/** Ids of events are unique per source. */
function keyOf(event: ReceivedEvent): string {
  return `${event.source_id} ${event.event_id}`;
}
