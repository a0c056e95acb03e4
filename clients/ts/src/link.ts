/**
 * Keeps a session connected: opens sockets, notices dead ones, and waits between attempts.
 *
 * A connection on which nothing comes for `limits.ping` seconds is asked with `ping`. If nothing comes
 * for as long again, it is dropped. Browsers cannot send the pings of the WebSocket protocol, so the
 * same is done everywhere.
 */

import { Backoff } from "./backoff.js";
import type { Codec } from "./codec.js";
import { ModvisorClientError, RemoteProtocolError, TakenOver, Unreachable } from "./errors.js";
import type { Happening, Session } from "./session.js";
import type { OpenSocket, Socket } from "./sockets.js";
import type { FromNetwork } from "./wire.js";

export interface LinkOptions {
  url: string;
  codec: Codec;
  openSocket: OpenSocket;
  /** Whether a lost connection is replaced. */
  reconnects: boolean;
  /** Told of what happens. */
  report(happening: Happening): void;
  /** Told that the connection stands, or is lost and tried again. */
  changed(isConnected: boolean): void;
  /** Told once that no connection comes any more. */
  ended(error: ModvisorClientError): void;
}

const HELLO_MS = 10_000;
const USUAL_PING_SECONDS = 20;
/** So long an acknowledgement may wait for others. */
const SETTLE_MS = 200;
/** So long a closing handshake may take. */
const CLOSE_MS = 2_000;

// Close codes after which a new connection would meet the same end.
const FINAL_CLOSES: Record<number, string> = { 4400: "bad_input", 4403: "forbidden" };
const TAKEN_OVER = 4409;

export class Link {
  /** Why the last attempt or connection failed. */
  lastError: ModvisorClientError | null = null;
  readonly #backoff = new Backoff();
  #socket: Socket | null = null;
  #isStopped = false;
  #heardAt = 0;
  #hasAsked = false;
  #waitMs: number | null = null;
  #retryTimer: Timer;
  #watchTimer: Timer;
  #settleTimer: Timer;
  #closed: (() => void) | null = null;

  constructor(
    private readonly session: Session,
    private readonly options: LinkOptions,
  ) {}

  /** Begin to connect. */
  open(): void {
    this.#retryTimer = undefined;
    const socket = this.#newSocket();
    if (socket === null) return;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(this.session.hello());
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    socket.onerror = () => {}; // the close says it, too
    this.#socket = socket;
    this.#watchTimer = setTimeout(() => this.#drop("no welcome came in time"), HELLO_MS);
  }

  /** Connect now, if an attempt waits for its time. */
  retry(): void {
    if (this.#retryTimer === undefined) return;
    clearTimeout(this.#retryTimer);
    this.open();
  }

  /** Send what the session has to send. */
  flush(): void {
    if (this.#socket === null || !this.session.isLive) return;
    this.#send(this.#socket);
    this.#settleTimer ??= setTimeout(() => this.#settle(), SETTLE_MS);
  }

  /** Close, in good order; resolves when the socket is closed. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#settle();
    this.#clearTimers();
    const socket = this.#socket;
    if (socket === null) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, CLOSE_MS);
      this.#closed = () => (clearTimeout(timer), resolve());
      socket.close(1000, "");
    });
    this.#detach();
  }

  #newSocket(): Socket | null {
    try {
      return this.options.openSocket(this.options.url, this.options.codec.subprotocol);
    } catch (error) {
      this.#end(new Unreachable(`cannot open a WebSocket: ${String(error)}`, { cause: error }));
      return null;
    }
  }

  // -- what comes

  #received(data: unknown): void {
    this.#heardAt = performance.now();
    this.#hasAsked = false;
    try {
      const frame: FromNetwork = this.options.codec.unpack(data);
      this.session.receive(frame).forEach((happening) => this.#happened(happening));
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      return this.#drop(error.message, error);
    }
    this.flush();
  }

  #happened(happening: Happening): void {
    if (happening.kind === "welcome") this.#welcomed();
    else if (happening.kind === "refused") this.#refused(happening);
    else if (happening.kind === "closing") this.lastError = happening.error;
    this.options.report(happening);
  }

  #welcomed(): void {
    this.#backoff.reset();
    this.lastError = null;
    this.#watch();
    this.options.changed(true);
  }

  #refused({ error, isFinal, waitMs }: Extract<Happening, { kind: "refused" }>): void {
    this.lastError = error;
    this.#waitMs = waitMs;
    if (isFinal) this.#end(error);
    else this.#drop(error.message, error);
  }

  // -- what ends

  #lost(code: number, reason: string): void {
    const wasLive = this.session.isLive;
    this.#detach();
    this.session.lost();
    this.#closed?.();
    if (this.#isStopped) return;
    if (wasLive) this.options.changed(false);
    const final = finalError(code, reason, this.lastError);
    if (final !== null) return this.#end(final);
    this.lastError ??= new Unreachable(`${this.options.url}: no connection (${code}${reason && `: ${reason}`})`);
    if (wasLive && !this.options.reconnects) return this.#end(this.lastError);
    const waitMs = this.#waitMs ?? this.#backoff.next();
    this.#waitMs = null;
    this.#retryTimer = setTimeout(() => this.open(), waitMs);
  }

  /** Drop the connection without waiting for the other side, which may be gone. */
  #drop(why: string, error: ModvisorClientError | null = null): void {
    const socket = this.#socket;
    if (socket === null) return;
    this.lastError = error ?? new Unreachable(`${this.options.url}: ${why}`);
    this.#lost(0, why);
    if (socket.terminate !== undefined) socket.terminate();
    else socket.close();
  }

  #end(error: ModvisorClientError): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#clearTimers();
    const socket = this.#socket;
    this.#detach();
    socket?.close();
    this.options.ended(error);
  }

  #detach(): void {
    this.#clearTimers();
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
  }

  // -- what time brings

  #watch(): void {
    clearTimeout(this.#watchTimer);
    const pingMs = (this.session.welcome?.limits.ping ?? USUAL_PING_SECONDS) * 1000;
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs >= 2 * pingMs) return this.#drop("the network does not answer");
    if (silentMs >= pingMs && !this.#hasAsked) {
      this.#hasAsked = true;
      this.session.ping();
      this.flush();
    }
    const dueMs = (this.#hasAsked ? 2 * pingMs : pingMs) - silentMs;
    this.#watchTimer = setTimeout(() => this.#watch(), Math.max(dueMs, 1));
  }

  #settle(): void {
    clearTimeout(this.#settleTimer);
    this.#settleTimer = undefined;
    this.session.settle();
    if (this.#socket !== null) this.#send(this.#socket);
  }

  #send(socket: Socket): void {
    for (const bytes of this.session.take()) socket.send(bytes);
  }

  #clearTimers(): void {
    for (const timer of [this.#retryTimer, this.#watchTimer, this.#settleTimer]) clearTimeout(timer);
    this.#retryTimer = this.#settleTimer = undefined;
  }
}

type Timer = ReturnType<typeof setTimeout> | undefined;

function finalError(code: number, reason: string, last: ModvisorClientError | null): ModvisorClientError | null {
  if (code === TAKEN_OVER) return new TakenOver("a newer connection of the same agent has taken over");
  const fallback = FINAL_CLOSES[code];
  if (fallback === undefined) return null;
  return last ?? new RemoteProtocolError(reason || `the network closed the connection (${code})`, { code: fallback });
}
