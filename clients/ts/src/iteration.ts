/** The two kinds of consumers: an iterator over events, and a function that is called with each. */

import type { Consumer } from "./consumers.js";
import type { Held } from "./stream.js";
import type { ReceivedEvent } from "./wire.js";

interface Owner {
  release(held: Held): void;
  remove(consumer: Consumer, queue: readonly Held[]): void;
}

interface Waiter {
  resolve(result: IteratorResult<ReceivedEvent, undefined>): void;
  reject(error: Error): void;
}

const DONE: IteratorResult<ReceivedEvent, undefined> = { done: true, value: undefined };

/** Events in order. An event is handled when the loop comes back for the next one, or ends. */
export class EventIterator implements Consumer, AsyncIterableIterator<ReceivedEvent, undefined> {
  #queue: Held[] = [];
  #given: Held[] = [];
  #waiters: Waiter[] = [];
  #ended = false;
  #error: Error | null = null;

  constructor(
    readonly patterns: readonly string[],
    private readonly owner: Owner,
  ) {}

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<ReceivedEvent, undefined>> {
    this.#finishGiven();
    const held = this.#queue.shift();
    if (held !== undefined) return Promise.resolve(this.#give(held));
    if (this.#ended) return this.#last();
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Stop. What the loop has got is handled. */
  return(): Promise<IteratorResult<ReceivedEvent, undefined>> {
    this.#finishGiven();
    this.owner.remove(this, this.#queue.splice(0));
    this.end(null);
    return Promise.resolve(DONE);
  }

  finish(): Promise<void> {
    this.#finishGiven();
    this.end(null);
    return Promise.resolve();
  }

  take(held: Held): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#queue.push(held);
    else waiter.resolve(this.#give(held));
  }

  /** What is queued is not acknowledged: it comes again when the agent is back. */
  end(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#queue = [];
    for (const waiter of this.#waiters.splice(0)) this.#last().then(waiter.resolve, waiter.reject);
  }

  #give(held: Held): IteratorResult<ReceivedEvent, undefined> {
    this.#given.push(held);
    return { done: false, value: held.event };
  }

  #finishGiven(): void {
    for (const held of this.#given.splice(0)) this.owner.release(held);
  }

  /** Tell of the end; an error once. */
  #last(): Promise<IteratorResult<ReceivedEvent, undefined>> {
    const error = this.#error;
    this.#error = null;
    return error === null ? Promise.resolve(DONE) : Promise.reject(error);
  }
}

/** Calls a function with events, in order: one after the other, or as many at once as it may. */
export class EventHandler implements Consumer {
  #queue: Held[] = [];
  #active = 0;
  readonly #running = new Set<Promise<void>>();

  /** `handle` never rejects. */
  constructor(
    readonly patterns: readonly string[],
    private readonly owner: Owner,
    private readonly concurrency: number,
    private readonly handle: (event: ReceivedEvent) => Promise<void>,
  ) {}

  take(held: Held): void {
    this.#queue.push(held);
    if (this.#active >= this.concurrency) return;
    this.#active += 1;
    const run = this.#run().finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  end(): void {
    this.#queue = [];
  }

  /** Stop. What the function has begun with goes on. */
  stop(): void {
    this.owner.remove(this, this.#queue.splice(0));
  }

  async finish(): Promise<void> {
    this.end();
    await Promise.all(this.#running);
  }

  async #run(): Promise<void> {
    for (let held = this.#queue.shift(); held !== undefined; held = this.#queue.shift()) {
      await this.handle(held.event);
      this.owner.release(held);
    }
    this.#active -= 1;
  }
}
