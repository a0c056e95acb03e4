/** The conversation of an agent with a network, message by message. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { codecOf, type Packed } from "../../src/codec.js";
import { RemoteProtocolError } from "../../src/errors.js";
import type { EventResponse } from "../../src/response.js";
import { Session } from "../../src/session.js";
import type { FromClient, FromNetwork } from "../../src/wire.js";

const CODEC = codecOf("json");
const LIMITS = { message_bytes: 1_000_000, credit: 1000, in_flight: 2, ping: 20 };

test("an agent without a secret registers, and resumes with the secret that it got", () => {
  const session = newSession();
  assert.equal(read(session.hello()).type, "register");
  welcome(session, { secret: "s1" });
  session.lost();
  assert.deepEqual(read(session.hello()), {
    type: "resume",
    id: 0,
    agent_id: "alice",
    secret: "s1",
    cursor: "a.0",
    credit: 4,
  });
});

test("a secret that the network does not know is forgotten, and the agent registers at once", () => {
  const session = newSession({ secret: "old" });
  session.hello();
  const [refused] = session.receive(error("unauthenticated"));
  assert.ok(refused?.kind === "refused" && !refused.isFinal && refused.waitMs === 0);
  session.lost();
  const again = read(session.hello());
  assert.ok(again.type === "register" && again.secret === "old"); // it may prove that a live id is ours
  const [final] = session.receive(error("unauthenticated"));
  assert.ok(final?.kind === "refused" && final.isFinal);
});

test("an agent whose goodbye lost its answer has left, if the network does not know it any more", () => {
  const session = newSession({ secret: "s1" });
  session.hello();
  welcome(session);
  const answers: boolean[] = [];
  session.unregister(
    ({ success }) => answers.push(success),
    () => answers.push(false),
  );
  assert.equal(session.take().map(read)[0]?.type, "unregister");
  session.lost();
  session.hello();
  const [refused] = session.receive(error("unauthenticated"));
  assert.ok(refused?.kind === "refused" && refused.isFinal);
  assert.deepEqual([answers, session.credentials.secret], [[true], "s1"]);
});

test("a busy network is asked again, after as long as it says", () => {
  const session = newSession();
  session.hello();
  const [refused] = session.receive(error("too_many", { retry_after: 3 }));
  assert.ok(refused?.kind === "refused" && !refused.isFinal && refused.waitMs === 3000);
});

test("an id that a lost registration of our own holds is tried again for a while", () => {
  let now = 0;
  const session = newSession({}, () => now);
  session.hello();
  session.lost(); // the registration, or its answer, was lost
  session.hello();
  const [early] = session.receive(error("id_taken"));
  assert.ok(early?.kind === "refused" && !early.isFinal);
  session.lost();
  now = 91_000;
  session.hello();
  const [late] = session.receive(error("id_taken"));
  assert.ok(late?.kind === "refused" && late.isFinal);
});

test("an id that somebody else has is refused for good", () => {
  const session = newSession();
  session.hello();
  const [refused] = session.receive(error("id_taken"));
  assert.ok(refused?.kind === "refused" && refused.isFinal);
});

test("events without an answer are sent again by the next connection, the same bytes in the same order", () => {
  const session = newSession();
  session.hello();
  welcome(session);
  const answers: boolean[] = [];
  send(session, "e1", answers);
  send(session, "e2", answers);
  const first = session.take().map(read);
  session.receive(response(first[0]!, true));
  session.lost();
  assert.deepEqual(session.take(), []);
  session.hello();
  welcome(session);
  assert.deepEqual(session.take().map(read), [first[1]]);
  session.receive(response(first[1]!, false));
  assert.deepEqual(answers, [true, false]);
});

test("no more events are in flight than the network allows", () => {
  const session = newSession();
  session.hello();
  welcome(session);
  for (const id of ["e1", "e2", "e3"]) send(session, id);
  const sent = session.take().map(read);
  assert.equal(sent.length, 2);
  session.receive(response(sent[0]!, true));
  assert.equal(session.take().length, 1);
});

test("an event that is taken back before it was sent is never sent", () => {
  const session = newSession();
  const takeBack = send(session, "e1");
  send(session, "e2");
  takeBack();
  session.hello();
  welcome(session);
  assert.deepEqual(session.take().map(eventId), ["e2"]);
});

test("an event that the network refuses to read is an unsuccessful response", () => {
  const session = newSession();
  session.hello();
  welcome(session);
  let got: EventResponse | null = null;
  const request = session.pack({ event_name: "a.b", event_id: "e1" });
  session.send(request, (response) => (got = response), assert.fail);
  session.take();
  session.receive({ type: "error", id: request.id, error: "bad_input", message: "no", data: { key: "x" } });
  assert.equal((got as EventResponse | null)?.error, "bad_input");
});

test("what breaks the protocol is an error of the other side", () => {
  const session = newSession();
  session.hello();
  assert.throws(() => session.receive({ type: "events", events: [] }), RemoteProtocolError);
  welcome(session);
  assert.throws(() => welcome(session), RemoteProtocolError);
  assert.throws(() => session.receive({ type: "events", events: [{}] } as unknown as FromNetwork), RemoteProtocolError);
  assert.throws(() => CODEC.unpack("{"), RemoteProtocolError);
  assert.throws(() => CODEC.unpack("[1]"), RemoteProtocolError);
  assert.throws(() => codecOf("msgpack").unpack(new Uint8Array([0xc1]).buffer), RemoteProtocolError);
});

test("whatever the other side sends, it is taken or an error of the other side", () => {
  const event = { event_name: "a.b", event_id: "e1", source_id: "bob", payload: {}, requires_response: false };
  const messages = [
    { type: "welcome", id: 0, cursor: "a.1", resumed: true, secret: "s", limits: LIMITS },
    {
      type: "events",
      events: [
        { cursor: "a.1", event },
        { cursor: "a.2", undeliverable: { event_id: "e2" } },
      ],
    },
    { type: "response", id: 1, success: true, message: "", data: { delivered: 1 } },
    { type: "error", id: 1, error: "too_many", message: "", data: { retry_after: 1 } },
    { type: "dropped", events: 1, sources: { bob: 1 } },
    { type: "closing", error: "not_running", message: "" },
  ];
  const values = [undefined, null, true, -1, 1e300, "", "x", [], [null], {}, { type: 1 }];
  for (const isLive of [false, true]) {
    for (const message of messages) {
      for (const changed of changesOf(message, values)) {
        const session = newSession();
        session.hello();
        if (isLive) welcome(session);
        send(session, "e1");
        session.take();
        try {
          session.receive(changed as FromNetwork);
        } catch (error) {
          assert.ok(error instanceof RemoteProtocolError, `${JSON.stringify(changed)}: ${error}`);
        }
        session.take();
        session.lost();
        session.hello();
      }
    }
  }
});

test("a message of a newer network, and an answer that nobody waits for, change nothing", () => {
  const session = newSession();
  session.hello();
  welcome(session);
  assert.deepEqual(session.receive({ type: "news" } as unknown as FromNetwork), []);
  assert.deepEqual(session.receive({ type: "response", id: 99, success: true, message: "", data: null }), []);
});

function newSession(more: { secret?: string } = {}, now: () => number = () => 0): Session {
  const credentials = { metadata: {}, group: null, passwordHash: null, invite: null, secret: null, ...more };
  return new Session("alice", credentials, CODEC, 4, now);
}

function welcome(session: Session, more: { secret?: string } = {}): void {
  session.receive({
    type: "welcome",
    id: 0,
    agent_id: "alice",
    network_id: "lab",
    network_name: "lab",
    assigned_group: null,
    cursor: "a.0",
    resumed: false,
    limits: LIMITS,
    ...more,
  });
}

function send(session: Session, eventId: string, answers: boolean[] = []): () => void {
  const request = session.pack({ event_name: "a.b", event_id: eventId });
  return session.send(request, ({ success }) => answers.push(success), assert.fail);
}

function response(request: FromClient, success: boolean): FromNetwork {
  assert.ok("id" in request);
  return { type: "response", id: request.id, success, message: "", data: null };
}

function error(code: string, data: Record<string, unknown> = {}): FromNetwork {
  return { type: "error", id: 0, error: code, message: code, data };
}

function read(bytes: Packed): FromClient {
  return JSON.parse(bytes as string);
}

function eventId(bytes: Packed): unknown {
  const frame = read(bytes);
  return frame.type === "send" ? frame.event.event_id : null;
}

/** Return a value with each of its parts, however deep, replaced by each of the values. */
function* changesOf(whole: unknown, values: readonly unknown[]): Generator<unknown> {
  if (typeof whole !== "object" || whole === null) return;
  for (const [key, part] of Object.entries(whole)) {
    const replaced = [...values, ...changesOf(part, values)];
    for (const value of replaced)
      yield Array.isArray(whole) ? whole.with(Number(key), value) : { ...whole, [key]: value };
  }
}
