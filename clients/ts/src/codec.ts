/** Messages to bytes and back, by subprotocol. Pure. */

import { Decoder, Encoder } from "@msgpack/msgpack";

import { BadUse, RemoteProtocolError } from "./errors.js";
import type { FromClient, FromNetwork } from "./wire.js";

export type Format = "msgpack" | "json";
export type Packed = string | Uint8Array<ArrayBuffer>;

// Keys whose value is undefined are left out, as in JSON.
const encoder = new Encoder({ ignoreUndefined: true });
const decoder = new Decoder();

export interface Codec {
  readonly subprotocol: string;
  pack(frame: FromClient): Packed;
  /** Throws `RemoteProtocolError` for what is no message. */
  unpack(data: unknown): FromNetwork;
}

const MSGPACK: Codec = {
  subprotocol: "modvisor.msgpack.v1",
  pack: (frame) => packed(frame),
  unpack(data) {
    if (!(data instanceof ArrayBuffer)) throw new RemoteProtocolError("expected a binary message");
    return checked(() => decoder.decode(data));
  },
};

const JSON_TEXT: Codec = {
  subprotocol: "modvisor.json.v1",
  pack: (frame) => JSON.stringify(frame, withoutBytes),
  unpack(data) {
    if (typeof data !== "string") throw new RemoteProtocolError("expected a text message");
    return checked(() => JSON.parse(data));
  },
};

export function codecOf(format: Format): Codec {
  return format === "json" ? JSON_TEXT : MSGPACK;
}

/** Return the msgpack of a value. */
export function packed(value: unknown): Uint8Array<ArrayBuffer> {
  try {
    return encoder.encode(value);
  } catch (error) {
    throw new BadUse(`a value that msgpack cannot carry: ${messageOf(error)}`, { cause: error });
  }
}

/** Return the value in msgpack from the network. */
export function unpacked(data: ArrayBuffer): unknown {
  return decoder.decode(data);
}

function checked(read: () => unknown): FromNetwork {
  const frame = parsed(read);
  if (typeof frame !== "object" || frame === null || typeof (frame as FromNetwork).type !== "string") {
    throw new RemoteProtocolError("expected a map with 'type'");
  }
  return frame as FromNetwork;
}

function parsed(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    throw new RemoteProtocolError(`a message that cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

function withoutBytes(key: string, value: unknown): unknown {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    throw new BadUse(`${key}: JSON has no bytes; use the format 'msgpack', which is the default`);
  }
  return value;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
