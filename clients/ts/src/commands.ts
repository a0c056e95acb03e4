/** What an agent can ask of the network itself: subscriptions, channels, who is there. */

import type { EventResponse } from "./response.js";

type Mapping = Record<string, unknown>;
export type Patterns = string | readonly string[];

/** The commands of a client that are events of the network's own (`system.*`). All throw the error of a refusal. */
export abstract class Commands {
  abstract send(name: string, payload?: Mapping): Promise<EventResponse>;

  /** Send `system.NAME` and return the data of its answer. */
  async command<T = unknown>(name: string, payload: Mapping = {}): Promise<T> {
    return (await this.send(`system.${name}`, payload)).check().data as T;
  }

  /**
   * Have only events delivered that match: of all channels, or of some. Returns the id of the subscription.
   * An agent without a subscription gets every event that is sent to it.
   */
  async subscribe(patterns: Patterns, channels?: Patterns): Promise<string> {
    const asked = { event_patterns: asList(patterns), channels: channels === undefined ? undefined : asList(channels) };
    return (await this.command<{ subscription_id: string }>("subscribe_events", asked)).subscription_id;
  }

  /** Give up a subscription; without an id, all of them. */
  async unsubscribe(subscriptionId?: string): Promise<void> {
    await this.command("unsubscribe_events", { subscription_id: subscriptionId });
  }

  /** Become a member of a channel, which is made if it does not exist. */
  async join(channel: string): Promise<void> {
    await this.command("add_channel_member", { channel_id: channel });
  }

  /** Leave a channel. */
  async part(channel: string): Promise<void> {
    await this.command("remove_channel_member", { channel_id: channel });
  }

  /** Return the ids of a channel's members. */
  async members(channel: string): Promise<string[]> {
    return (await this.command<{ members: string[] }>("get_channel_members", { channel_id: channel })).members;
  }

  /** Return the channels, as the network lists them. */
  async channels(): Promise<unknown> {
    return (await this.command<{ channels: unknown }>("list_channels")).channels;
  }

  /** Return the agents that this agent may know of. */
  async agents(): Promise<Mapping[]> {
    return (await this.command<{ agents: Mapping[] }>("list_agents")).agents;
  }

  /** Return the mods of the network. */
  async mods(): Promise<Mapping[]> {
    return (await this.command<{ mods: Mapping[] }>("list_mods")).mods;
  }
}

export function asList(patterns: Patterns): readonly string[] {
  return typeof patterns === "string" ? [patterns] : patterns;
}
