/** What this package needs of a WebSocket: what browsers, Node 22 and the package `ws` have in common. */

import type { Packed } from "./codec.js";

export interface Socket {
  binaryType: string;
  onopen: (() => void) | null;
  onmessage: ((message: { data: unknown }) => void) | null;
  onclose: ((close: { code: number; reason: string }) => void) | null;
  onerror: ((error: unknown) => void) | null;
  send(data: Packed): void;
  close(code?: number, reason?: string): void;
  /** Of the package `ws`: end at once, without a handshake. */
  terminate?(): void;
}

/** Opens a WebSocket. */
export type OpenSocket = (url: string, subprotocol: string) => Socket;

export const openPlatformSocket: OpenSocket = (url, subprotocol) =>
  new WebSocket(url, subprotocol) as unknown as Socket;
