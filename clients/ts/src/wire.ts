/** The messages of `/ws`, by the names that this package uses for them. The types are printed from the network. */

import type * as frames from "./generated/frames.js";

export type { FromClient, FromNetwork, Register, Resume, Welcome } from "./generated/frames.js";

/** An event that was delivered to the agent. */
export type ReceivedEvent = frames.Event;

/** An event as an agent sends it. */
export type SentEvent = frames.Send["event"] & { event_id: string };

/** What the network says of an event that was sent. */
export type Answer = Omit<frames.Response, "type" | "id">;

export type ErrorFrame = frames.Error;
export type Dropped = Omit<frames.Dropped, "type">;

/** One item of a push: an event, or what stands for an event that JSON cannot carry. */
export type Pushed = frames.Events["events"][number];
export type Undeliverable = NonNullable<Pushed["undeliverable"]>;
