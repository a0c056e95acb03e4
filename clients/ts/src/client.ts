/// <reference lib="esnext.disposable" preserve="true" />

/** An agent's connection to a network: what programs use. */

import { parseAddress } from "./address.js";
import { codecOf } from "./codec.js";
import { Consumers } from "./consumers.js";
import { BadUse, Closed, ModvisorClientError, NoSuchAgent, Unserializable } from "./errors.js";
import { EventHandler, EventIterator } from "./iteration.js";
import { Link } from "./link.js";
import type { AgentOptions, Platform, SendOptions, Status } from "./options.js";
import { checkPatterns } from "./patterns.js";
import { Replies, REPLY } from "./replies.js";
import { isMapping, type EventResponse } from "./response.js";
import { newEventId, passwordHash } from "./secrets.js";
import { Sending } from "./sending.js";
import { Session, type Happening } from "./session.js";
import { openPlatformSocket } from "./sockets.js";
import type { Held } from "./stream.js";
import type { ReceivedEvent, SentEvent } from "./wire.js";

type Payload = Record<string, unknown>;
type Patterns = string | readonly string[];
/** Takes an event. What it returns is sent to a sender that waits for a reply. */
export type Handler = (event: ReceivedEvent) => unknown;

const WINDOW = 64;
const TIMEOUT_MS = 40_000;
/** What a client waits longer than the event may take, for a connection that was lost. */
const GRACE_MS = 10_000;
const CONNECT_MS = 10_000;
const LEAVE_MS = 5_000;

const BROWSER: Platform = {
  openSocket: openPlatformSocket,
  openFile: (path) => Promise.reject(new BadUse(`file ${JSON.stringify(path)}: a browser takes a Blob or File`)),
};

export class AgentClient {
  readonly #session: Session;
  readonly #link: Link;
  readonly #sending: Sending;
  readonly #replies = new Replies();
  readonly #consumers: Consumers;
  readonly #leaves: boolean;
  #state: "new" | "open" | "closed" = "new";
  #error: ModvisorClientError | null = null;
  #flushes = false;
  readonly #whenOnline = (): void => this.reconnect();
  #connected: { resolve(): void; reject(error: Error): void } | null = null;

  /** Prepare a client; `connect()` connects it. */
  constructor(
    url: string,
    readonly agentId: string,
    private readonly options: AgentOptions = {},
    platform: Platform = BROWSER,
  ) {
    const codec = codecOf(options.format ?? "msgpack");
    const { metadata = {}, group = null, invite = null, secret = null } = options;
    const credentials = { metadata, group, invite, secret, passwordHash: options.passwordHash ?? null };
    const address = parseAddress(url);
    this.#session = new Session(agentId, credentials, codec, options.window ?? WINDOW);
    this.#session.hello(); // metadata that cannot travel fails here
    this.#consumers = new Consumers((held) => this.#handled(held));
    this.#leaves = secret === null && options.secretStore === undefined;
    this.#link = new Link(this.#session, {
      url: address.ws,
      codec,
      openSocket: platform.openSocket,
      report: (happening) => this.#happened(happening),
      changed: (isConnected) => this.#changed(isConnected ? "connected" : "reconnecting"),
      ended: (error) => this.#end(error),
    });
    this.#sending = new Sending(agentId, address.http, this.#session, this.#link, platform);
  }

  /** Connect an agent. It registers, or goes on with the secret that it is given or has kept. */
  static connect(url: string, agentId: string, options: AgentOptions = {}): Promise<AgentClient> {
    return new this(url, agentId, options).connect();
  }

  /** Connect; throws what the network refuses with, or `Unreachable` after `connectTimeoutMs`. */
  async connect(): Promise<this> {
    if (this.#state !== "new") throw new BadUse("connect() may be called once; make a new AgentClient");
    this.#state = "open";
    const { password, secretStore, connectTimeoutMs = CONNECT_MS } = this.options;
    const { credentials } = this.#session;
    if (password !== undefined) credentials.passwordHash = await passwordHash(password);
    credentials.secret ??= (await secretStore?.load()) ?? null;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => this.#end(this.#sending.unreachable()), connectTimeoutMs);
      this.#connected = {
        resolve: () => (clearTimeout(timer), resolve()),
        reject: (error) => (clearTimeout(timer), reject(error)),
      };
      globalThis.addEventListener?.("online", this.#whenOnline); // of browsers
      this.#link.open();
    });
    return this;
  }

  /** Connect at once if the connection is lost, instead of after a while: whoever knows that the network is back may say so. */
  reconnect(): void {
    this.#link.retry();
  }

  // -- what is known

  /** The agent's secret; null before the first connection. */
  get secret(): string | null {
    return this.#session.credentials.secret;
  }

  /** The group that the agent is in. */
  get group(): string | null {
    return this.#session.welcome?.assigned_group ?? null;
  }

  get networkId(): string | null {
    return this.#session.welcome?.network_id ?? null;
  }

  get networkName(): string | null {
    return this.#session.welcome?.network_name ?? null;
  }

  get isConnected(): boolean {
    return this.#session.isLive;
  }

  /** How many events no handler and no iterator wanted. */
  get unclaimed(): number {
    return this.#consumers.unclaimed;
  }

  // -- sending

  /**
   * Send an event and return what became of it. An event that fails is an unsuccessful response.
   *
   * Over a lost connection the event is sent again, and handled once. Throws `Timeout` or `Unreachable`
   * if no answer came in time, and `Closed` on a client that is closed.
   */
  async send(name: string, payload: Payload = {}, options: SendOptions = {}): Promise<EventResponse> {
    this.#checkOpen();
    const event = eventOf(name, payload, options);
    const waitMs = options.timeoutMs === undefined ? this.#timeoutMs : options.timeoutMs + GRACE_MS;
    return await this.#sending.send(event, options.files, waitMs, options.signal);
  }

  /**
   * Send an event and return the data of its answer; throw the typed error of a failure.
   *
   * A mod answers by its response. If agents got the event, the first reply of one of them is the answer.
   */
  async request<T = unknown>(name: string, payload: Payload = {}, options: SendOptions = {}): Promise<T> {
    const eventId = options.eventId ?? newEventId();
    const reply = this.#replies.expect(eventId);
    try {
      const response = await this.send(name, payload, { ...options, eventId, requiresResponse: true });
      const { data, delivered } = response.check();
      if (delivered === 0) throw new NoSuchAgent(`${name} was delivered to nobody who could reply`);
      return (delivered === null ? data : await this.#replied(reply, name, options)) as T;
    } finally {
      this.#replies.forget(eventId);
    }
  }

  /** Reply to an event whose sender waits for it (`requires_response`). */
  async reply(event: ReceivedEvent, data: unknown = null): Promise<EventResponse> {
    return await this.#reply(event, { success: true, data });
  }

  // -- receiving

  /** Return the events whose name matches a pattern: `chat.message`, `chat.*`, or all. */
  events(patterns: Patterns = []): AsyncIterableIterator<ReceivedEvent, undefined> {
    const iterator = new EventIterator(checkPatterns(asList(patterns)), this.#consumers);
    this.#consumers.add(iterator);
    return iterator;
  }

  /** Call a function with each event that matches, one after the other. Returns what stops it. */
  on(patterns: Patterns, handler: Handler): () => void {
    const consumer = new EventHandler(checkPatterns(asList(patterns)), this.#consumers, (event) =>
      this.#handle(event, handler),
    );
    this.#consumers.add(consumer);
    return () => consumer.stop();
  }

  // -- what the network answers itself

  /** Get only events that match these patterns, and those of other subscriptions; returns the subscription's id. */
  async subscribe(patterns: Patterns, channels: Patterns = []): Promise<string> {
    const asked = { event_patterns: asList(patterns), channels: asList(channels) };
    return (await this.#command<{ subscription_id: string }>("subscribe_events", asked)).subscription_id;
  }

  /** End a subscription; without an id: all of them. */
  async unsubscribe(subscriptionId?: string): Promise<void> {
    await this.#command("unsubscribe_events", { subscription_id: subscriptionId });
  }

  /** Become a member of a channel. */
  async join(channel: string): Promise<void> {
    await this.#command("add_channel_member", { channel_id: channel });
  }

  /** Leave a channel. */
  async leave(channel: string): Promise<void> {
    await this.#command("remove_channel_member", { channel_id: channel });
  }

  /** Return the ids of a channel's members. */
  async members(channel: string): Promise<string[]> {
    return (await this.#command<{ members: string[] }>("get_channel_members", { channel_id: channel })).members;
  }

  async channels(): Promise<unknown> {
    return (await this.#command<{ channels: unknown }>("list_channels")).channels;
  }

  async agents(): Promise<Payload[]> {
    return (await this.#command<{ agents: Payload[] }>("list_agents")).agents;
  }

  async mods(): Promise<Payload[]> {
    return (await this.#command<{ mods: Payload[] }>("list_mods")).mods;
  }

  // -- leaving

  /** Leave the network: the id is free, and what waited in the inbox is gone. The client is closed. */
  async unregister(): Promise<void> {
    await this.close({ leave: true });
  }

  /**
   * Close the connection. Events that are not handled stay in the agent's inbox for the next time.
   *
   * The agent leaves the network, unless it can come back: its secret was given, or is kept in a store.
   * `leave` says otherwise.
   */
  async close({ leave = this.#leaves }: { leave?: boolean } = {}): Promise<void> {
    if (this.#state === "closed") return;
    const wasLive = this.#session.isLive;
    this.#state = "closed";
    if (leave && wasLive) await this.#unregister();
    if (leave) await this.options.secretStore?.remove();
    await this.#link.stop();
    this.#finish(new Closed("the client was closed"), null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // -- how it is done: sending

  get #timeoutMs(): number {
    return this.options.timeoutMs ?? TIMEOUT_MS;
  }

  async #replied(reply: Promise<unknown>, name: string, options: SendOptions): Promise<unknown> {
    return await this.#sending.inTime(name, options.timeoutMs ?? this.#timeoutMs, options.signal, async (ended) => {
      const late = new Promise<never>((_, reject) => {
        ended.addEventListener("abort", () => reject(ended.reason), { once: true });
      });
      return await Promise.race([reply, late]);
    });
  }

  async #command<T = unknown>(name: string, payload: Payload = {}): Promise<T> {
    return (await this.send(`system.${name}`, payload)).check().data as T;
  }

  async #reply(event: ReceivedEvent, payload: Payload): Promise<EventResponse> {
    return await this.send(REPLY, payload, { to: event.source_id ?? "", responseTo: event.event_id });
  }

  async #unregister(): Promise<void> {
    const left = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LEAVE_MS);
      const done = () => (clearTimeout(timer), resolve());
      this.#session.unregister(done, done);
    });
    this.#link.flush();
    await left;
  }

  #checkOpen(): void {
    if (this.#state === "open" && this.#session.welcome !== null) return;
    throw this.#error ?? new Closed(this.#state === "closed" ? "the client is closed" : "call connect() first");
  }

  // -- how it is done: receiving

  #happened(happening: Happening): void {
    if (happening.kind === "welcome") this.#welcomed(happening.welcome.secret);
    else if (happening.kind === "events")
      this.#consumers.offer(happening.events.filter((held) => !this.#isReply(held)));
    else if (happening.kind === "dropped") this.options.onDropped?.(happening.dropped);
    else if (happening.kind === "complaint") this.#report(happening.error);
    else if (happening.kind === "undeliverable") {
      const { event_name: name, error } = happening.event;
      this.#report(new Unserializable(`${name} cannot come as JSON: ${error}; use the format 'msgpack'`));
    }
  }

  #welcomed(secret: string | undefined): void {
    if (secret !== undefined) void this.#keep(secret);
    else this.#connected?.resolve();
  }

  /** Keep a new secret, before `connect()` returns. */
  async #keep(secret: string): Promise<void> {
    try {
      await this.options.secretStore?.save(secret);
      this.#connected?.resolve();
    } catch (error) {
      const cause = error instanceof ModvisorClientError ? error : new BadUse(String(error), { cause: error });
      this.#end(cause);
    }
  }

  #isReply(held: Held): boolean {
    const isReply = this.#replies.take(held.event);
    if (isReply) this.#handled(held);
    return isReply;
  }

  async #handle(event: ReceivedEvent, handler: Handler): Promise<void> {
    try {
      const data = await handler(event);
      if (event.requires_response && data !== undefined && data !== null) await this.reply(event, data);
    } catch (error) {
      this.#report(error, event);
      if (event.requires_response) await this.#replyFailed(event, error);
    }
  }

  async #replyFailed(event: ReceivedEvent, error: unknown): Promise<void> {
    const message = `the handler of agent ${this.agentId} failed: ${error instanceof Error ? error.message : error}`;
    const failed = this.#reply(event, { success: false, error: "handler_error", message });
    await failed.catch((second: unknown) => this.#report(second, event));
  }

  #handled(held: Held): void {
    this.#session.stream.handled(held);
    if (this.#flushes) return;
    this.#flushes = true;
    setTimeout(() => {
      this.#flushes = false;
      this.#link.flush();
    });
  }

  // -- how it is done: ends

  #changed(status: Status): void {
    this.options.onStatus?.(status, status === "connected" ? null : this.#link.lastError);
  }

  /** End for good, for this reason. */
  #end(error: ModvisorClientError): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#error = error;
    void this.#link.stop();
    this.#finish(error, error);
  }

  #finish(forRequests: ModvisorClientError, forIterators: ModvisorClientError | null): void {
    globalThis.removeEventListener?.("online", this.#whenOnline);
    this.#connected?.reject(forRequests);
    this.#session.end(forRequests);
    this.#replies.end(forRequests);
    this.#consumers.end(forIterators);
    this.options.onStatus?.("closed", forIterators);
  }

  #report(error: unknown, event: ReceivedEvent | null = null): void {
    if (this.options.onError !== undefined) this.options.onError(error, event);
    else console.error("modvisor client:", error);
  }
}

function eventOf(name: string, payload: Payload, options: SendOptions): SentEvent {
  if (!isMapping(payload)) throw new BadUse("payload: expected an object");
  return {
    event_name: name,
    event_id: options.eventId ?? newEventId(),
    destination_id: options.to,
    payload,
    metadata: options.metadata,
    timeout: options.timeoutMs === undefined ? undefined : options.timeoutMs / 1000,
    visibility: options.visibility,
    allowed_agents: options.allowedAgents,
    requires_response: options.requiresResponse,
    response_to: options.responseTo,
    thread_name: options.threadName,
    text_representation: options.textRepresentation,
  };
}

function asList(patterns: Patterns): readonly string[] {
  return typeof patterns === "string" ? [patterns] : patterns;
}
