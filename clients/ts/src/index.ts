/** The client for browsers, and for every other place with `WebSocket` and `fetch`. */

export { AgentClient } from "./client.js";
export * from "./common.js";
