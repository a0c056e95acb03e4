/** What both entries of the package export. */

export * from "./errors.js";
export type { Format } from "./codec.js";
export type { Handler } from "./handling.js";
export type { AgentOptions, HandlerOptions, SendOptions, Status } from "./options.js";
export { EventResponse } from "./response.js";
export { passwordHash, storedSecret, type SecretStore } from "./secrets.js";
export type { Dropped, ReceivedEvent } from "./wire.js";

/** Bodies of the HTTP API for agents, and messages of the WebSocket, as the network describes them. */
export type * as api from "./generated/api.js";
export type * as frames from "./generated/frames.js";
