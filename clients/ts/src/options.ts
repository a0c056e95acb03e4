/** What a client can be told, and what a platform brings. */

import type { Format } from "./codec.js";
import type { ModvisorClientError } from "./errors.js";
import type { SecretStore } from "./secrets.js";
import type { OpenSocket } from "./sockets.js";
import type { Dropped, ReceivedEvent } from "./wire.js";

export type Status = "connected" | "reconnecting" | "closed";

export interface AgentOptions {
  /** Group to join. */
  group?: string;
  /** Password of the group. Only its SHA-256 is sent. */
  password?: string;
  /** SHA-256 of the password, in lower-case hexadecimal digits, instead of the password. */
  passwordHash?: string;
  /** Invitation to the network. */
  invite?: string;
  /** Describes the agent; others see `name` and `capabilities`. */
  metadata?: Record<string, unknown>;
  /** Secret of an agent that is registered already. */
  secret?: string;
  /** Keeps the secret between two runs. In Node also `secretFile`. */
  secretStore?: SecretStore;
  /** Most events that are here and not handled yet. Default: 64. */
  window?: number;
  /** Whether a lost connection is replaced. Default: yes. */
  reconnects?: boolean;
  /** How long the first connection is tried. Default: 10,000. */
  connectTimeoutMs?: number;
  /** Default: msgpack. JSON carries no bytes. */
  format?: Format;
  /**
   * Returns the `traceparent` (W3C Trace Context) of the span in which an event is sent; it travels in the event's
   * metadata, and the network goes on in its trace. Undefined: the event is not part of a trace.
   */
  traceparent?(): string | undefined;
  /** Told that the connection stands, is lost and tried again, or is closed for good. */
  onStatus?(status: Status, error: ModvisorClientError | null): void;
  /** Told how many events were lost because the inbox was full, and whose. */
  onDropped?(dropped: Dropped): void;
  /** Told of errors that nobody awaits: of handlers, and complaints of the network. Default: `console.error`. */
  onError?(error: unknown, event: ReceivedEvent | null): void;
}

export interface HandlerOptions {
  /** How many events are handled at once. Default: 1. */
  concurrency?: number;
}

export interface SendOptions {
  /** `bob`, `agent:broadcast`, `channel:ID`, `group:ID`, `mod:ID`. Without it: any mod that handles the event. */
  to?: string;
  metadata?: Record<string, unknown>;
  /** Makes a repetition of the call a retry: the event is handled once. Random unless given. */
  eventId?: string;
  /**
   * How long the event may take. The client waits 10 s longer, for a connection that was lost.
   * Default: as the network says; of a request, 30,000.
   */
  timeoutMs?: number;
  visibility?: string;
  allowedAgents?: string[];
  requiresResponse?: boolean;
  /** Id of the event that this one replies to. */
  responseTo?: string;
  threadName?: string;
  textRepresentation?: string;
  /** Files whose bytes become values of the payload. In Node also the path of a file. */
  files?: Record<string, Blob | string>;
  signal?: AbortSignal;
}

/** What differs between browsers and Node. */
export interface Platform {
  openSocket: OpenSocket;
  /** Return a file of the disk, without reading it. */
  openFile(path: string): Promise<Blob>;
}
