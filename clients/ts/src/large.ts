/**
 * Events too large for a WebSocket message: `POST /api/send_event` in msgpack.
 *
 * The body is a Blob of pieces. A file is one of the pieces: the platform reads it from the disk as it
 * sends it, and never holds it in memory as a whole.
 */

import { messageOf, packed, unpacked } from "./codec.js";
import { Unreachable } from "./errors.js";
import { EventResponse, isMapping } from "./response.js";
import type { Answer, SentEvent } from "./wire.js";

const MSGPACK = "application/msgpack";
const SHORT_MAP = 15;
const TWO_BYTES = 0xffff;

export interface Sender {
  agentId: string;
  secret: string;
}

/** Return the body of an event. The files become values of its payload. */
export function bodyOf(event: SentEvent, files: Record<string, Blob>, sender: Sender): Blob {
  const { payload, ...rest } = event;
  const fields = Object.entries({ ...rest, source_id: sender.agentId, secret: sender.secret }).filter(
    ([, value]) => value !== undefined,
  );
  const values = Object.entries(payload ?? {}).filter(([key, value]) => value !== undefined && !(key in files));
  const contents = Object.entries(files);
  return new Blob([
    mapHead(fields.length + 1),
    ...fields.flatMap(([key, value]) => [packed(key), packed(value)]),
    packed("payload"),
    mapHead(values.length + contents.length),
    ...values.flatMap(([key, value]) => [packed(key), packed(value)]),
    ...contents.flatMap(([key, file]) => [packed(key), bytesHead(file.size), file]),
  ]);
}

/** Send a body; throw `Unreachable` if no answer came, which may mean that the event was handled. */
export async function post(url: string, body: Blob, sender: Sender, signal: AbortSignal): Promise<EventResponse> {
  // The secret goes first, in the headers: a large body is read only if its sender is known before.
  const headers = {
    "Content-Type": MSGPACK,
    Accept: MSGPACK,
    "X-Agent-Id": sender.agentId,
    Authorization: `Bearer ${sender.secret}`,
  };
  const answer = await answered(url, { method: "POST", headers, body, signal });
  if (!isMapping(answer.body)) throw new Unreachable(`${url}: an answer that is none of modvisor's (${answer.status})`);
  const said = answer.body as unknown as Answer;
  return new EventResponse({ ...said, message: said.message || `HTTP ${answer.status}` });
}

async function answered(url: string, request: RequestInit): Promise<{ status: number; body: unknown }> {
  try {
    const response = await fetch(url, request);
    return { status: response.status, body: await bodyFrom(response) };
  } catch (error) {
    if (request.signal?.aborted) throw request.signal.reason;
    throw new Unreachable(`${url}: ${messageOf(error)}`, { cause: error });
  }
}

async function bodyFrom(response: Response): Promise<unknown> {
  const bytes = await response.arrayBuffer();
  const isMsgpack = response.headers.get("content-type")?.startsWith(MSGPACK) ?? false;
  return isMsgpack ? unpacked(bytes) : JSON.parse(new TextDecoder().decode(bytes));
}

function mapHead(count: number): Uint8Array<ArrayBuffer> {
  return count <= SHORT_MAP ? new Uint8Array([0x80 | count]) : head(0xde, 0xdf, count);
}

function bytesHead(size: number): Uint8Array<ArrayBuffer> {
  return head(0xc5, 0xc6, size);
}

/** Return a head of msgpack whose length takes two bytes or four. */
function head(short: number, long: number, length: number): Uint8Array<ArrayBuffer> {
  const isShort = length <= TWO_BYTES;
  const view = new DataView(new ArrayBuffer(isShort ? 3 : 5));
  view.setUint8(0, isShort ? short : long);
  if (isShort) view.setUint16(1, length);
  else view.setUint32(1, length);
  return new Uint8Array(view.buffer);
}
