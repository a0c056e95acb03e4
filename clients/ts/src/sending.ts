/** Takes events to the network: over the WebSocket, or by HTTP if they are large. Waits for the answers. */

import { Backoff } from "./backoff.js";
import { Timeout, Unreachable, type ModvisorClientError } from "./errors.js";
import { bodyOf, post } from "./large.js";
import type { Link } from "./link.js";
import type { Platform, SendOptions } from "./options.js";
import type { EventResponse } from "./response.js";
import type { Request, Session } from "./session.js";
import type { SentEvent } from "./wire.js";

/** Messages over this size go by HTTP. */
const LARGE = 1_000_000;

/** So long a request without a deadline waits for a connection that was lost. */
const OFFLINE_MS = 60_000;

type Files = NonNullable<SendOptions["files"]>;

export class Sending {
  /** What has no deadline of its own. */
  readonly #unlimited = new Set<AbortController>();
  #offline: ReturnType<typeof setTimeout> | undefined;

  /** `http` is the address that the routes of the HTTP API follow. */
  constructor(
    private readonly agentId: string,
    private readonly http: string,
    private readonly session: Session,
    private readonly link: Link,
    private readonly platform: Platform,
  ) {}

  /** Send an event; throw `Timeout` or `Unreachable` after `waitMs`, or what `signal` is aborted with. */
  async send(
    event: SentEvent,
    files: Files | undefined,
    waitMs: number | null,
    signal?: AbortSignal,
  ): Promise<EventResponse> {
    return await this.inTime(event.event_name, waitMs, signal, async (ended) => {
      if (files !== undefined) return await this.#sendLarge(event, await this.#opened(files), ended);
      const request = this.session.pack(event);
      const most = Math.min(LARGE, this.session.welcome?.limits.message_bytes ?? LARGE);
      return await (request.bytes.length > most ? this.#sendLarge(event, {}, ended) : this.#ask(request, ended));
    });
  }

  /** Do something that ends when its signal is aborted: after `waitMs`, or by the caller's signal. */
  async inTime<T>(
    name: string,
    waitMs: number | null,
    signal: AbortSignal | undefined,
    act: (ended: AbortSignal) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    const end = new AbortController();
    const abort = () => end.abort(signal?.reason);
    const timer = waitMs === null ? undefined : setTimeout(() => end.abort(this.#late(name, waitMs)), waitMs);
    if (waitMs === null) this.#unlimited.add(end);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return await act(end.signal);
    } finally {
      clearTimeout(timer);
      this.#unlimited.delete(end);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Note whether there is a connection: what has no deadline fails after a minute without one. */
  connected(isConnected: boolean): void {
    clearTimeout(this.#offline);
    if (!isConnected) this.#offline = setTimeout(() => this.#giveUp(), OFFLINE_MS);
  }

  #giveUp(): void {
    for (const end of this.#unlimited) end.abort(this.unreachable());
  }

  /** Return why there is no connection. */
  unreachable(): ModvisorClientError {
    return this.link.lastError ?? new Unreachable(`${this.http}: no connection`);
  }

  async #ask(request: Request, ended: AbortSignal): Promise<EventResponse> {
    return await new Promise<EventResponse>((resolve, reject) => {
      if (ended.aborted) return reject(ended.reason);
      const takeBack = this.session.send(request, resolve, reject);
      ended.addEventListener("abort", () => (takeBack(), reject(ended.reason)), { once: true });
      this.link.flush();
    });
  }

  async #sendLarge(event: SentEvent, files: Record<string, Blob>, ended: AbortSignal): Promise<EventResponse> {
    const backoff = new Backoff();
    for (;;) {
      const sender = { agentId: this.agentId, secret: this.session.credentials.secret ?? "" };
      try {
        return await post(`${this.http}/api/send_event`, bodyOf(event, files, sender), sender, ended);
      } catch (error) {
        if (!(error instanceof Unreachable) || ended.aborted) throw error;
        await pause(backoff.next(), ended);
      }
    }
  }

  async #opened(files: Files): Promise<Record<string, Blob>> {
    const opened = Object.entries(files).map(async ([name, file]) => {
      return [name, typeof file === "string" ? await this.platform.openFile(file) : file] as const;
    });
    return Object.fromEntries(await Promise.all(opened));
  }

  #late(name: string, waitMs: number): ModvisorClientError {
    if (!this.session.isLive) return this.unreachable();
    return new Timeout(`${name}: no answer came in ${waitMs / 1000} s`);
  }
}

/** Wait; reject if the signal comes first. */
async function pause(ms: number, ended: AbortSignal): Promise<void> {
  ended.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const abort = () => (clearTimeout(timer), reject(ended.reason));
    const timer = setTimeout(() => (ended.removeEventListener("abort", abort), resolve()), ms);
    ended.addEventListener("abort", abort, { once: true });
  });
}
