/** The address of a network, as users write it, and the addresses that follow from it. Pure. */

import { BadUse } from "./errors.js";

const DEFAULT_PORT = 8700;
const SECURE: Record<string, boolean> = { "http:": false, "ws:": false, "https:": true, "wss:": true };

export interface Address {
  /** The URL of the WebSocket. */
  ws: string;
  /** The URL that the routes of the HTTP API follow. */
  http: string;
}

/** Read `http://HOST:PORT`; also https, ws, wss, and HOST:PORT alone. A path stands before `/ws` and `/api`. */
export function parseAddress(text: string): Address {
  const url = parsed(text.includes("://") ? text : `http://${text}`);
  const secure = url === null ? undefined : SECURE[url.protocol];
  if (url === null || secure === undefined || !url.hostname || url.search || url.hash || url.username) {
    throw new BadUse(
      `url ${JSON.stringify(text)}: expected the address of a network, such as 'http://127.0.0.1:${DEFAULT_PORT}'`,
    );
  }
  // URL leaves the port out where it is the default of the scheme: 80 for http and ws, 443 for https and wss.
  const rest = `${url.host}${url.pathname.replace(/\/+$/, "")}`;
  return { ws: `${secure ? "wss" : "ws"}://${rest}/ws`, http: `${secure ? "https" : "http"}://${rest}` };
}

function parsed(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}
