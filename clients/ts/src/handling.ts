/** What becomes of an event that a handler gets: it is called, and a sender that waits gets a reply. */

import { HandlerError, ModvisorClientError } from "./errors.js";
import type { ReceivedEvent } from "./wire.js";

/** Takes an event. What it returns is the reply to a sender that waits for one. */
export type Handler = (event: ReceivedEvent) => unknown;

/** What the reply goes through. */
interface Replier {
  reply(event: ReceivedEvent, data: unknown): Promise<unknown>;
  refuse(event: ReceivedEvent, error: ModvisorClientError): Promise<unknown>;
}

type Report = (error: unknown, event: ReceivedEvent) => void;

/** Call a handler with an event. This never rejects: `report` is told of failures. */
export async function handle(event: ReceivedEvent, handler: Handler, replier: Replier, report: Report): Promise<void> {
  try {
    const data = await handler(event);
    if (event.requires_response && data !== undefined && data !== null) await replier.reply(event, data);
  } catch (error) {
    report(error, event);
    if (!event.requires_response) return;
    const told = error instanceof ModvisorClientError ? error : new HandlerError(String(error));
    await replier.refuse(event, told).catch((second: unknown) => report(second, event));
  }
}
