/**
 * Who gets which event: handlers and iterators, by patterns of names. Pure.
 *
 * An event goes to every consumer that matches. It is handled when each of them has finished with it.
 * While there is no consumer at all, events wait. Once there is one, an event that nobody matches
 * counts as handled.
 */

import { matches } from "./patterns.js";
import type { Held } from "./stream.js";

export interface Consumer {
  readonly patterns: readonly string[];
  take(held: Held): void;
  /** Take nothing more; resolves when what was begun is handled. */
  finish(): Promise<void>;
  /** No more events come; with an error if the connection failed. */
  end(error: Error | null): void;
}

export class Consumers {
  /** How many events nobody wanted. */
  unclaimed = 0;
  readonly #all = new Set<Consumer>();
  #waiting: Held[] = [];
  #ended: { error: Error | null } | null = null;

  /** `handled` is told of each event that every consumer has finished with. */
  constructor(private readonly handled: (held: Held) => void) {}

  add(consumer: Consumer): void {
    if (this.#ended !== null) return consumer.end(this.#ended.error);
    this.#all.add(consumer);
    // Whoever adds several consumers in a row means all of them to see what waited.
    if (this.#waiting.length > 0) queueMicrotask(() => this.offer(this.#waiting.splice(0)));
  }

  /** Remove a consumer. The events that it has not begun with are for the others, or for the next one. */
  remove(consumer: Consumer, queue: readonly Held[]): void {
    this.#all.delete(consumer);
    const isLast = this.#all.size === 0 && this.#ended === null;
    const waiting = queue.filter((held) => isLast && held.takers === 1);
    for (const held of queue) if (!waiting.includes(held)) this.release(held);
    this.#waiting.unshift(...waiting);
  }

  offer(events: readonly Held[]): void {
    if (this.#all.size === 0) this.#waiting.push(...events);
    else events.forEach((held) => this.#handOut(held));
  }

  /** Note that a consumer has finished with an event. */
  release(held: Held): void {
    held.takers -= 1;
    if (held.takers === 0) this.handled(held);
  }

  /** Let nothing new begin; resolves when what was begun is handled. */
  async finish(): Promise<void> {
    await Promise.all([...this.#all].map((consumer) => consumer.finish()));
  }

  end(error: Error | null): void {
    if (this.#ended !== null) return;
    this.#ended = { error };
    for (const consumer of this.#all) consumer.end(error);
    this.#all.clear();
  }

  #handOut(held: Held): void {
    const takers = [...this.#all].filter(({ patterns }) => fits(patterns, held.event.event_name));
    held.takers = takers.length;
    if (takers.length === 0) {
      this.unclaimed += 1;
      this.handled(held);
    } else takers.forEach((consumer) => consumer.take(held));
  }
}

function fits(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => matches(pattern, name));
}
