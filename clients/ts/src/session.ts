/**
 * The conversation of one agent with a network, over any number of connections. Pure: no socket, no timer.
 *
 * - `hello()` begins a connection: `resume` with the secret, or `register` without one.
 * - `receive()` takes a message and returns what happened. `take()` returns the messages to send.
 * - `lost()` ends a connection. Events that have no answer yet are sent again by the next one, with the
 *   same `event_id`: the network handles an event once.
 *
 * A secret that the network does not know any more (`unauthenticated`) is forgotten, and the agent
 * registers again. Any other refusal of the hello is final, unless time can mend it.
 */

import type { Codec, Packed } from "./codec.js";
import { errorOf, IdTaken, ModvisorClientError, RemoteProtocolError } from "./errors.js";
import { EventResponse, isMapping } from "./response.js";
import { Stream, type Due, type Held } from "./stream.js";
import type {
  Dropped,
  ErrorFrame,
  FromClient,
  FromNetwork,
  Pushed,
  SentEvent,
  Undeliverable,
  Welcome,
} from "./wire.js";

/** How an agent introduces itself. */
export interface Credentials {
  metadata: Record<string, unknown>;
  group: string | null;
  passwordHash: string | null;
  invite: string | null;
  secret: string | null;
}

export type Happening =
  | { kind: "welcome"; welcome: Welcome }
  | { kind: "events"; events: Held[] }
  | { kind: "dropped"; dropped: Dropped }
  | { kind: "undeliverable"; event: Undeliverable }
  /** The hello was refused. Only if it is final there is nothing more to try. */
  | { kind: "refused"; error: ModvisorClientError; isFinal: boolean; waitMs: number | null }
  /** The network did not understand a message. */
  | { kind: "complaint"; error: ModvisorClientError }
  /** The network says why it is about to close the connection. */
  | { kind: "closing"; error: ModvisorClientError };

/** A request in bytes; they are the same on each connection. */
export interface Request {
  readonly id: number;
  readonly bytes: Packed;
}

interface Open {
  readonly request: Request;
  isSent: boolean;
  settle(response: EventResponse): void;
  fail(error: Error): void;
}

// Refusals that say nothing of the agent: the network is busy, starts or stops.
const PASSING = new Set(["too_many", "overloaded", "busy", "not_running", "timeout", "internal_error", "storage_full"]);
/** So long the network holds the id of a guest that registered and was not seen since, and a bit longer. */
const LOST_REGISTRATION_MS = 90_000;
const MOST_IN_FLIGHT = 256;
const HELLO_ID = 0;

export class Session {
  readonly stream: Stream;
  welcome: Welcome | null = null;
  #isLive = false;
  #out: Packed[] = [];
  #open = new Map<number, Open>();
  #unsent: Open[] = [];
  #inFlight = 0;
  #lastId = HELLO_ID;
  #isRegistering = false;
  /** The request to leave, if there was one. */
  #farewell: number | null = null;
  /** A secret that was refused: it may still prove that a live id is ours. */
  #outdated: string | null = null;
  #registrationLostAt: number | null = null;

  /** `now` returns milliseconds. */
  constructor(
    private readonly agentId: string,
    readonly credentials: Credentials,
    private readonly codec: Codec,
    window: number,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.stream = new Stream(window);
  }

  /** Whether the network has welcomed the agent on the present connection. */
  get isLive(): boolean {
    return this.#isLive;
  }

  // -- connections

  /** Return the first message of a new connection. */
  hello(): Packed {
    this.stream.reconnect();
    const { secret, metadata, group, passwordHash, invite } = this.credentials;
    const who = { id: HELLO_ID, agent_id: this.agentId, credit: this.stream.window };
    this.#isRegistering = secret === null;
    if (secret !== null) return this.codec.pack({ type: "resume", ...who, secret, cursor: this.stream.cursor });
    const joining = { metadata, group, password_hash: passwordHash, invite, secret: this.#outdated };
    return this.codec.pack({ type: "register", ...who, ...joining });
  }

  /** Note that the connection is gone. */
  lost(): void {
    if (this.#isRegistering && !this.#isLive) this.#registrationLostAt ??= this.now();
    this.#isLive = false;
    this.#out = [];
    this.#inFlight = 0;
    this.#unsent = [...this.#open.values()];
    for (const open of this.#unsent) open.isSent = false;
  }

  /** Return the messages to send now. */
  take(): Packed[] {
    if (!this.#isLive) return [];
    this.#send();
    const due = this.stream.due();
    if (due !== null) this.#acknowledge(due);
    return this.#out.splice(0);
  }

  /** Make the next `take` acknowledge all that is handled. */
  settle(): void {
    const due = this.#isLive ? this.stream.settle() : null;
    if (due !== null) this.#acknowledge(due);
  }

  // -- what the agent asks

  /** Return an event in bytes, for `send`. Throws `BadUse` for a value that cannot travel. */
  pack(event: SentEvent): Request {
    return this.#packed({ type: "send", id: this.#nextId(), event });
  }

  /** Send an event. `settle` or `fail` is called, once. Returns what takes the request back. */
  send(request: Request, settle: Open["settle"], fail: Open["fail"]): () => void {
    const open: Open = { request, isSent: false, settle, fail };
    this.#open.set(request.id, open);
    this.#unsent.push(open);
    return () => this.#answered(request.id, () => {});
  }

  /** Leave the network. If it does not know the agent any more, the agent has left. */
  unregister(settle: Open["settle"], fail: Open["fail"]): void {
    this.#farewell = this.#nextId();
    this.send(this.#packed({ type: "unregister", id: this.#farewell }), settle, fail);
  }

  ping(): void {
    this.#put({ type: "ping", id: this.#nextId() });
  }

  /** Fail all requests: no connection comes any more. */
  end(error: Error): void {
    this.lost();
    this.#unsent = [];
    for (const [id, open] of [...this.#open]) {
      this.#open.delete(id);
      open.fail(error);
    }
  }

  // -- what the network says

  /** Take a message. Throws `RemoteProtocolError` for one that breaks the protocol. */
  receive(frame: FromNetwork): Happening[] {
    switch (frame.type) {
      case "welcome":
        return [this.#welcomed(frame)];
      case "events":
        return this.#pushed(frame.events);
      case "response":
        return this.#answered(frame.id, (open) => open.settle(new EventResponse(frame)));
      case "dropped":
        return [{ kind: "dropped", dropped: { events: frame.events, sources: frame.sources } }];
      case "error":
        return this.#refused(frame);
      case "closing":
        return [{ kind: "closing", error: errorOf(frame.error, frame.message) }];
      default: // a pong, or a message of a newer network
        return [];
    }
  }

  #welcomed(welcome: Welcome): Happening {
    if (this.#isLive || typeof welcome.cursor !== "string" || !isMapping(welcome.limits)) {
      throw new RemoteProtocolError("a welcome that was not expected, or without cursor and limits");
    }
    this.#isLive = true;
    this.#registrationLostAt = null;
    this.welcome = welcome;
    if (welcome.secret !== undefined) {
      this.credentials.secret = welcome.secret;
      this.#outdated = null;
    }
    this.stream.welcome(welcome.resumed, welcome.cursor);
    return { kind: "welcome", welcome };
  }

  #pushed(items: unknown): Happening[] {
    if (!isPush(items) || !this.#isLive) throw new RemoteProtocolError("events without cursors, or before the welcome");
    const missing = items.flatMap((item) => item.undeliverable ?? []);
    const events = this.stream.push(items);
    return [
      ...missing.map((event): Happening => ({ kind: "undeliverable", event })),
      ...(events.length > 0 ? [{ kind: "events", events } as const] : []),
    ];
  }

  #answered(id: number, finish: (open: Open) => void): [] {
    const open = this.#open.get(id);
    if (open === undefined) return []; // taken back, or answered already
    this.#open.delete(id);
    if (open.isSent) this.#inFlight -= 1;
    finish(open);
    return [];
  }

  #refused(frame: ErrorFrame): Happening[] {
    const error = errorOf(frame.error, frame.message, frame.data);
    if (frame.id === undefined) return [{ kind: "complaint", error }];
    if (frame.id === HELLO_ID && !this.#isLive) return [this.#helloRefused(error)];
    // As over HTTP: an event that is refused is an unsuccessful response, not an exception.
    const data = { ...frame.data, error: frame.error };
    return this.#answered(frame.id, (open) =>
      open.settle(new EventResponse({ success: false, message: frame.message, data })),
    );
  }

  #helloRefused(error: ModvisorClientError): Happening {
    const wasRegistering = this.#isRegistering;
    this.#isRegistering = false;
    if (error.code === "unauthenticated" && !wasRegistering) {
      if (this.#hasLeft()) return { kind: "refused", error, isFinal: true, waitMs: null };
      this.#outdated = this.credentials.secret;
      this.credentials.secret = null;
      return { kind: "refused", error, isFinal: false, waitMs: 0 };
    }
    const seconds = error.data.retry_after;
    const waitMs = typeof seconds === "number" ? seconds * 1000 : null;
    return { kind: "refused", error, isFinal: !this.#canPass(error), waitMs };
  }

  /** Return whether the network has removed the agent by its own wish: the answer to that was lost. */
  #hasLeft(): boolean {
    if (this.#farewell === null || !this.#open.has(this.#farewell)) return false;
    const response = new EventResponse({ success: true, message: `agent ${this.agentId} has left`, data: null });
    this.#answered(this.#farewell, (open) => open.settle(response));
    return true;
  }

  /** Return whether the hello may succeed later. Our own lost registration holds the id for a while. */
  #canPass(error: ModvisorClientError): boolean {
    if (PASSING.has(error.code)) return true;
    const lostAt = this.#registrationLostAt;
    return error instanceof IdTaken && lostAt !== null && this.now() - lostAt < LOST_REGISTRATION_MS;
  }

  // -- requests

  #send(): void {
    const most = Math.min(MOST_IN_FLIGHT, this.welcome?.limits.in_flight ?? MOST_IN_FLIGHT);
    let taken = 0;
    for (const open of this.#unsent) {
      if (this.#inFlight >= most) break;
      taken += 1;
      if (!this.#open.has(open.request.id)) continue; // taken back before it was sent
      open.isSent = true;
      this.#inFlight += 1;
      this.#out.push(open.request.bytes);
    }
    this.#unsent.splice(0, taken);
  }

  #acknowledge(due: Due): void {
    if (due.cursor !== null) this.#put({ type: "ack", cursor: due.cursor });
    if (due.credit > 0) this.#put({ type: "credit", events: due.credit });
  }

  #put(frame: FromClient): void {
    this.#out.push(this.codec.pack(frame));
  }

  #packed(frame: FromClient & { id: number }): Request {
    return { id: frame.id, bytes: this.codec.pack(frame) };
  }

  #nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }
}

function isPush(items: unknown): items is Pushed[] {
  return Array.isArray(items) && items.every((item) => typeof item?.cursor === "string" && isPushed(item));
}

function isPushed({ event, undeliverable }: Pushed): boolean {
  if (event === undefined || event === null) return isMapping(undeliverable);
  return isMapping(event) && typeof event.event_name === "string" && isMapping(event.payload);
}
