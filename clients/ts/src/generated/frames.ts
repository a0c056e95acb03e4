// Printed from docs/openapi/frames.json by `npm run generate`; do not edit.

export type FromClient = Register | Resume | Send | Ack | Credit | Ping | Unregister;
export type FromNetwork = Welcome | Response | Events | Dropped | Error | Pong | Closing;

/**
 * Become an agent. The answer is `welcome`.
 */
export interface Register {
  type: "register";
  /**
   * of the sender's choice; the answer repeats it
   */
  id: number;
  /**
   * letters, digits, `_`, `.`, `@`, `-`
   */
  agent_id: string;
  /**
   * describes the agent
   */
  metadata?: {
    [k: string]: unknown;
  } | null;
  /**
   * name of the group to join
   */
  group?: string | null;
  /**
   * SHA-256 (hexadecimal) of the password of the group to join
   */
  password_hash?: string | null;
  /**
   * the present secret of the id
   */
  secret?: string | null;
  /**
   * an invitation to this network
   */
  invite?: string | null;
  /**
   * how many events may be pushed before more credit comes
   */
  credit?: number;
}
/**
 * Go on as an agent that is registered. The answer is `welcome`.
 */
export interface Resume {
  type: "resume";
  /**
   * of the sender's choice; the answer repeats it
   */
  id: number;
  /**
   * letters, digits, `_`, `.`, `@`, `-`
   */
  agent_id: string;
  /**
   * the secret that `register` returned
   */
  secret: string;
  /**
   * of the last event that the client has handled; without it all that waits is pushed
   */
  cursor?: string | null;
  /**
   * how many events may be pushed before more credit comes
   */
  credit?: number;
}
/**
 * Send an event. The answer is `response`.
 */
export interface Send {
  type: "send";
  /**
   * of the sender's choice; the answer repeats it
   */
  id: number;
  /**
   * as `POST /api/send_event` takes it; source and secret are the connection's
   */
  event: {
    /**
     * `domain.entity.action`
     */
    event_name: string;
    target_agent_id?: string | null;
    /**
     * an agent, `agent:broadcast`, `channel:ID`, `group:ID`, `mod:ID`; without it any mod
     */
    destination_id?: string | null;
    event_id?: string | null;
    payload?: {
      [k: string]: unknown;
    } | null;
    metadata?: {
      [k: string]: unknown;
    } | null;
    visibility?: string | null;
    timeout?: number | null;
    allowed_agents?: string[] | null;
    requires_response?: boolean | null;
    response_to?: string | null;
    thread_name?: string | null;
    text_representation?: string | null;
  };
}
/**
 * All events up to this cursor are handled, and leave the inbox.
 */
export interface Ack {
  type: "ack";
  /**
   * of the last event that the client has handled
   */
  cursor: string;
}
/**
 * Let the network push more events.
 */
export interface Credit {
  type: "credit";
  /**
   * so many more events may be pushed
   */
  events?: number;
}
/**
 * Ask for a `pong`.
 */
export interface Ping {
  type: "ping";
  /**
   * of the sender's choice; the answer repeats it
   */
  id: number;
}
/**
 * Leave. The answer is `response`, then the connection is closed.
 */
export interface Unregister {
  type: "unregister";
  /**
   * of the sender's choice; the answer repeats it
   */
  id: number;
}
/**
 * The answer to `register` and `resume`.
 */
export interface Welcome {
  type: "welcome";
  id: number;
  agent_id: string;
  secret?: string;
  network_id: string;
  network_name: string;
  assigned_group: string | null;
  cursor: string;
  resumed: boolean;
  limits: {
    /**
     * of the largest message from the client
     */
    message_bytes: number;
    /**
     * the most credit; what is above it is cut off
     */
    credit: number;
    /**
     * events that may wait for their answers; more are read later
     */
    in_flight: number;
    /**
     * seconds of silence after which the network pings
     */
    ping: number | null;
  };
}
/**
 * The answer to `send`, with the keys of the answer of `POST /api/send_event`, and to `unregister`.
 */
export interface Response {
  type: "response";
  id: number;
  success: boolean;
  message: string;
  data: unknown;
  error?: string | null;
  error_message?: string;
  event_id?: unknown;
  event_name?: unknown;
}
/**
 * Events for the agent, in order.
 */
export interface Events {
  type: "events";
  events: {
    cursor: string;
    event?: Event;
    /**
     * in the place of an event that these messages cannot carry
     */
    undeliverable?: {
      event_id: string;
      event_name: string;
      error: string;
    };
  }[];
}
export interface Event {
  event_name: string;
  source_id: string | null;
  event_id: string;
  /**
   * seconds since 1970
   */
  timestamp: number;
  source_type: "agent" | "mod" | "system";
  destination_id: string | null;
  relevant_mod: null;
  requires_response: boolean;
  response_to: string | null;
  thread_name: string | null;
  payload: {
    [k: string]: unknown;
  };
  metadata: {
    [k: string]: unknown;
  };
  text_representation: string | null;
  visibility: string;
  allowed_agents: string[] | null;
  secret: null;
  source_agent_group: string | null;
}
/**
 * So many events were lost since the last time, because the inbox was full; by their sources.
 */
export interface Dropped {
  type: "dropped";
  events: number;
  sources: {
    [k: string]: number;
  };
}
/**
 * A message of the client was refused; `id` is that of this message, if it had one.
 */
export interface Error {
  type: "error";
  id?: number;
  error: string;
  message: string;
  data: {
    [k: string]: unknown;
  };
}
/**
 * The answer to `ping`.
 */
export interface Pong {
  type: "pong";
  id: number;
}
/**
 * The network closes the connection, for this reason.
 */
export interface Closing {
  type: "closing";
  error: string;
  message: string;
}
