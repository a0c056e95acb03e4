/// <reference lib="esnext.disposable" preserve="true" />

/** An agent's connection to a network: what programs use. */

import { parseAddress } from "./address.js";
import { codecOf } from "./codec.js";
import { asList, Commands, type Patterns } from "./commands.js";
import { Consumers } from "./consumers.js";
import { BadUse, Closed, ModvisorClientError, NoSuchAgent, Timeout, Unserializable } from "./errors.js";
import { handle, type Handler } from "./handling.js";
import { EventHandler, EventIterator } from "./iteration.js";
import { Link } from "./link.js";
import type { AgentOptions, HandlerOptions, Platform, SendOptions, Status } from "./options.js";
import { checkPatterns } from "./patterns.js";
import { Replies, REPLY } from "./replies.js";
import { EventResponse, isMapping } from "./response.js";
import { newEventId, passwordHash } from "./secrets.js";
import { Sending } from "./sending.js";
import { Session, type Happening } from "./session.js";
import { openPlatformSocket } from "./sockets.js";
import type { Held } from "./stream.js";
import type { Dropped, ReceivedEvent, SentEvent } from "./wire.js";

type Payload = Record<string, unknown>;
const WINDOW = 64;
/** So long a request may take, unless it says otherwise. */
const REQUEST_MS = 30_000;
/** What a client waits longer than the event may take, for a connection that was lost. */
const GRACE_MS = 10_000;
const CONNECT_MS = 10_000;
/** So long handlers have to end their event when the client is closed, and the network to take the leave. */
const GOODBYE_MS = 5_000;
const UNREGISTER = "system.unregister_agent";
const AGENT_ID = /^[A-Za-z0-9_.@-]+$/;

const BROWSER: Platform = {
  openSocket: openPlatformSocket,
  openFile: (path) => Promise.reject(new BadUse(`file ${JSON.stringify(path)}: a browser takes a Blob or File`)),
};

/**
 * An agent's connection to a network.
 *
 * A lost connection is replaced, and nothing is lost or repeated: the network keeps events until they
 * are handled, and a request that has no answer is sent again with the same event id.
 */
export class AgentClient extends Commands {
  readonly #session: Session;
  readonly #link: Link;
  readonly #sending: Sending;
  readonly #replies = new Replies();
  readonly #consumers: Consumers;
  readonly #leaves: boolean;
  readonly #over: Promise<ModvisorClientError | null>;
  #isOver: (error: ModvisorClientError | null) => void = () => {};
  #closing: Promise<void> | null = null;
  /** Why the agent has not left the network; null: it has. */
  #stays: Error | null = new Closed("the client is closed, and the agent has not left");
  #losses = 0;
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
    super();
    checkOptions(agentId, options);
    const codec = codecOf(options.format ?? "msgpack");
    const { metadata = {}, group = null, invite = null, secret = null } = options;
    const credentials = { metadata, group, invite, secret, passwordHash: options.passwordHash ?? null };
    const address = parseAddress(url);
    this.#session = new Session(agentId, credentials, codec, options.window ?? WINDOW);
    this.#session.hello(); // metadata that cannot travel fails here
    this.#consumers = new Consumers((held) => this.#handled(held));
    this.#leaves = secret === null && options.secretStore === undefined;
    this.#over = new Promise((resolve) => (this.#isOver = resolve));
    this.#link = new Link(this.#session, {
      url: address.ws,
      codec,
      openSocket: platform.openSocket,
      reconnects: options.reconnects ?? true,
      report: (happening) => this.#happened(happening),
      changed: (isConnected) => this.#changed(isConnected),
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

  /** How many events the network dropped because the agent's inbox was full. */
  get losses(): number {
    return this.#losses;
  }

  /** Wait until the client is closed; throws why the connection ended for good, such as `TakenOver`. */
  async ended(): Promise<void> {
    const error = await this.#over;
    if (error !== null) throw error;
  }

  // -- sending

  /**
   * Send an event and return what became of it. An event that fails is an unsuccessful response.
   *
   * Over a lost connection the event is sent again, and handled once. Throws `Timeout` or `Unreachable`
   * if no answer came in time, `BadUse` for what cannot travel, and `Closed` on a client that is closed.
   */
  async send(name: string, payload: Payload = {}, options: SendOptions = {}): Promise<EventResponse> {
    if (name === UNREGISTER && this.#isMe(payload.agent_id)) return await this.#sendFarewell();
    this.#checkOpen();
    const event = eventOf(name, payload, options, this.options.traceparent?.());
    const waitMs = options.timeoutMs === undefined ? null : options.timeoutMs + GRACE_MS;
    return await this.#sending.send(event, options.files, waitMs, options.signal);
  }

  /**
   * Send an event and return the data of its answer; throw the typed error of a failure.
   *
   * A mod answers by its response. If agents got the event, the first reply of one of them is the answer.
   */
  async request<T = unknown>(name: string, payload: Payload = {}, options: SendOptions = {}): Promise<T> {
    const { eventId = newEventId(), timeoutMs = REQUEST_MS } = options;
    const reply = this.#replies.expect(eventId);
    try {
      const response = await this.send(name, payload, { ...options, eventId, timeoutMs, requiresResponse: true });
      const { data, delivered } = response.check();
      if (options.to === undefined || delivered === null) return data as T;
      if (delivered === 0) throw new NoSuchAgent(`${name} was delivered to nobody who could reply`);
      return (await this.#replied(reply, name, timeoutMs, options.signal)) as T;
    } finally {
      this.#replies.forget(eventId);
    }
  }

  /** Reply to an event whose sender waits for it (`requires_response`). */
  async reply(event: ReceivedEvent, data: unknown = null): Promise<EventResponse> {
    return await this.#reply(event, { success: true, data });
  }

  /** Reply with a failure, which the sender's `request` throws. */
  async refuse(event: ReceivedEvent, error: ModvisorClientError): Promise<EventResponse> {
    return await this.#reply(event, { success: false, error: error.code, message: error.message });
  }

  // -- receiving

  /** Return the events whose name matches a pattern: `chat.message`, `chat.*`, or all. */
  events(patterns: Patterns = []): AsyncIterableIterator<ReceivedEvent, undefined> {
    const iterator = new EventIterator(checkPatterns(asList(patterns)), this.#consumers);
    this.#consumers.add(iterator);
    return iterator;
  }

  /**
   * Call a function with each event that matches, one after the other. Returns what stops it.
   *
   * What the function returns is the reply, if the sender waits for one. If it fails, `onError` is told,
   * and such a sender, too.
   */
  on(patterns: Patterns, handler: Handler, { concurrency = 1 }: HandlerOptions = {}): () => void {
    const call = (event: ReceivedEvent) => handle(event, handler, this, (error) => this.#report(error, event));
    const consumer = new EventHandler(checkPatterns(asList(patterns)), this.#consumers, concurrency, call);
    this.#consumers.add(consumer);
    return () => consumer.stop();
  }

  // -- leaving

  /**
   * Leave the network: the id is free, and what waited in the inbox is gone. The client is closed.
   *
   * Throws why the agent could not leave: what the network refuses with, `Unreachable` or `Timeout`. Its
   * secret is kept then.
   */
  async unregister(): Promise<void> {
    this.#checkOpen();
    this.#closing ??= this.#close(true, true);
    await this.#closing;
    if (this.#stays !== null) throw this.#stays;
  }

  /**
   * Close the connection. Handlers may end the event that they have. What nobody has seen stays in the
   * agent's inbox for the next time.
   *
   * The agent leaves the network, unless it can come back: its secret was given, or is kept in a store.
   * `leave` says otherwise. An agent that cannot leave, since it has no connection or the network refuses,
   * keeps its secret; `unregister` would say so.
   */
  async close({ leave = this.#leaves }: { leave?: boolean } = {}): Promise<void> {
    this.#closing ??= this.#close(leave);
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // -- how it is done: sending

  /** Leave: the connection ends with it, so it is no event like others. */
  async #sendFarewell(): Promise<EventResponse> {
    await this.unregister();
    return new EventResponse({ success: true, message: `agent ${this.agentId} has left`, data: null });
  }

  /** Return whether a command about this agent, or about none, is about this one. */
  #isMe(agentId: unknown): boolean {
    return agentId === undefined || agentId === null || agentId === this.agentId || agentId === `agent:${this.agentId}`;
  }

  async #replied(reply: Promise<unknown>, name: string, timeoutMs: number, signal?: AbortSignal): Promise<unknown> {
    return await this.#sending.inTime(name, timeoutMs, signal, async (ended) => {
      const late = new Promise<never>((_, reject) => {
        ended.addEventListener("abort", () => reject(ended.reason), { once: true });
      });
      return await Promise.race([reply, late]);
    });
  }

  async #reply(event: ReceivedEvent, payload: Payload): Promise<EventResponse> {
    return await this.send(REPLY, payload, { to: event.source_id ?? "", responseTo: event.event_id });
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
    else if (happening.kind === "dropped") this.#dropped(happening.dropped);
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

  #dropped(dropped: Dropped): void {
    this.#losses += dropped.events;
    this.options.onDropped?.(dropped);
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

  #changed(isConnected: boolean): void {
    this.#sending.connected(isConnected);
    if (isConnected) this.#tell("connected", null);
    else this.#tell("reconnecting", this.#link.lastError);
  }

  #tell(status: Status, error: ModvisorClientError | null): void {
    this.options.onStatus?.(status, error);
  }

  /** `insists`: whether to wait for a connection to leave over. */
  async #close(leaves: boolean, insists = false): Promise<void> {
    if (this.#state === "open") await within(GOODBYE_MS, this.#consumers.finish());
    if (this.#state === "closed") return;
    this.#state = "closed";
    if (leaves && (insists || this.#session.isLive)) this.#stays = await this.#unregister();
    if (this.#stays === null) await this.options.secretStore?.remove();
    await this.#link.stop();
    this.#finish(new Closed("the client was closed"), null);
  }

  /** Leave the network; return why that failed, or null. */
  async #unregister(): Promise<Error | null> {
    const answered = new Promise<EventResponse | Error>((resolve) => this.#session.unregister(resolve, resolve));
    this.#link.flush();
    const answer = await within(GOODBYE_MS, answered);
    if (answer instanceof Error) return answer;
    if (answer !== undefined) return answer.success ? null : answer.exception();
    if (!this.#session.isLive) return this.#sending.unreachable();
    return new Timeout(`the network did not answer in ${GOODBYE_MS / 1000} s`);
  }

  /** End for good, for this reason. */
  #end(error: ModvisorClientError): void {
    if (this.#state === "closed") return this.#session.end(error);
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
    this.#sending.connected(true);
    this.#isOver(forIterators);
    this.#tell("closed", forIterators);
  }

  #report(error: unknown, event: ReceivedEvent | null = null): void {
    if (this.options.onError !== undefined) this.options.onError(error, event);
    else console.error("modvisor client:", error);
  }
}

function eventOf(name: string, payload: Payload, options: SendOptions, traceparent?: string): SentEvent {
  if (!isMapping(payload)) throw new BadUse("payload: expected an object");
  return {
    event_name: name,
    event_id: options.eventId ?? newEventId(),
    destination_id: options.to,
    payload,
    metadata: traceparent === undefined ? options.metadata : { traceparent, ...options.metadata },
    timeout: options.timeoutMs === undefined ? undefined : options.timeoutMs / 1000,
    visibility: options.visibility,
    allowed_agents: options.allowedAgents,
    requires_response: options.requiresResponse,
    response_to: options.responseTo,
    thread_name: options.threadName,
    text_representation: options.textRepresentation,
  };
}

function checkOptions(agentId: string, { window = 1 }: AgentOptions): void {
  if (!AGENT_ID.test(agentId)) {
    const shown = JSON.stringify(agentId);
    throw new BadUse(`agentId ${shown}: expected letters, digits, '_', '.', '@', '-', such as 'alice'`);
  }
  if (!Number.isInteger(window) || window < 1) {
    throw new BadUse(`window ${window}: expected a whole number of at least 1`);
  }
}

/** Wait for a promise, but not for longer than this; return undefined then. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), ms)));
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
