/**
 * Replies of agents. A mod answers an event by its response. An agent answers with an event of its own:
 * `agent.reply`, which names the event it replies to in `response_to`.
 */

import { errorOf, type ModvisorClientError } from "./errors.js";
import { isMapping } from "./response.js";
import type { ReceivedEvent } from "./wire.js";

export const REPLY = "agent.reply";

interface Waiting {
  resolve(data: unknown): void;
  reject(error: Error): void;
}

/** The requests of this agent that wait for another agent's reply, by event id. */
export class Replies {
  readonly #waiting = new Map<string, Waiting>();

  expect(eventId: string): Promise<unknown> {
    const reply = new Promise<unknown>((resolve, reject) => this.#waiting.set(eventId, { resolve, reject }));
    reply.catch(() => {}); // it may be rejected before anybody waits for it
    return reply;
  }

  forget(eventId: string): void {
    this.#waiting.delete(eventId);
  }

  /** Take a reply; return whether somebody waited for it. */
  take(event: ReceivedEvent): boolean {
    if (event.event_name !== REPLY || event.response_to === null) return false;
    const waiting = this.#waiting.get(event.response_to);
    if (waiting === undefined) return false;
    this.#waiting.delete(event.response_to);
    if (event.payload.success === true) waiting.resolve(event.payload.data ?? null);
    else waiting.reject(errorIn(event.payload));
    return true;
  }

  end(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

function errorIn(payload: Record<string, unknown>): ModvisorClientError {
  const code = typeof payload.error === "string" ? payload.error : "handler_error";
  return errorOf(code, String(payload.message ?? ""), isMapping(payload.data) ? payload.data : {});
}
