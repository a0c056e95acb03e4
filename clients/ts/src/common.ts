/** What both entries of the package export. */

export * from "./errors.js";
export type { Format } from "./codec.js";
export type { AgentOptions, SendOptions, Status } from "./options.js";
export { EventResponse } from "./response.js";
export { passwordHash, storedSecret, type SecretStore } from "./secrets.js";
export type { Dropped, ReceivedEvent } from "./wire.js";
