/** The client for Node: files by path, a secret file, and the package `ws` where Node has no `WebSocket`. */

import { openAsBlob } from "node:fs";

import { AgentClient as PlatformClient } from "./client.js";
import { messageOf } from "./codec.js";
import { BadUse } from "./errors.js";
import type { AgentOptions as PlatformOptions, Platform } from "./options.js";
import { fileSecret } from "./secret_file.js";
import { openPlatformSocket, type OpenSocket } from "./sockets.js";

export interface AgentOptions extends PlatformOptions {
  /** File in which the agent keeps its secret, readable by its user alone (mode 0600). */
  secretFile?: string;
}

const NODE: Platform = { openSocket: await socketsOfNode(), openFile };

export class AgentClient extends PlatformClient {
  constructor(url: string, agentId: string, options: AgentOptions = {}) {
    const { secretFile, ...rest } = options;
    if (secretFile !== undefined) rest.secretStore ??= fileSecret(secretFile);
    super(url, agentId, rest, NODE);
  }

  static override connect(url: string, agentId: string, options: AgentOptions = {}): Promise<AgentClient> {
    return new this(url, agentId, options).connect();
  }
}

/** Node has `WebSocket` since version 22. */
async function socketsOfNode(): Promise<OpenSocket> {
  if (globalThis.WebSocket !== undefined) return openPlatformSocket;
  const { WebSocket } = await import("ws").catch(() => ({ WebSocket: null }));
  return (url, subprotocol) => {
    if (WebSocket === null) throw new BadUse("this version of Node has no WebSocket; run: npm install ws");
    return new WebSocket(url, subprotocol, { perMessageDeflate: false }) as unknown as ReturnType<OpenSocket>;
  };
}

async function openFile(path: string): Promise<Blob> {
  try {
    return await openAsBlob(path);
  } catch (error) {
    throw new BadUse(`file ${path}: ${messageOf(error)}`, { cause: error });
  }
}

export * from "./common.js";
export { fileSecret } from "./secret_file.js";
