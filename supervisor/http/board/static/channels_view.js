/** Channels with their members, and groups with their rights. */

import { Failure, get, V1 } from "./api.js";
import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { facts } from "./mod_parts.js";

export class ChannelsView {
  title = "Channels and groups";

  constructor() {
    this.key = "";
    this.channels = h("div", { class: "cards" });
    this.groups = h("div", { class: "cards" });
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, h("h1", {}, this.title)),
      h("h2", { class: "under" }, "Channels"),
      this.channels,
      h("h2", { class: "under" }, "Groups"),
      this.groups,
    );
  }

  start() {
    void this.#read();
    this.timer = setInterval(() => !document.hidden && void this.#read(), 5000);
  }

  stop() {
    clearInterval(this.timer);
  }

  async #read() {
    let [channels, groups] = [[], []];
    try {
      [{ channels }, { groups }] = await Promise.all([get(`${V1}/channels`), get(`${V1}/groups`)]);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return fill(this.channels, h("p", { class: "muted" }, error.message));
    }
    const key = JSON.stringify([channels, groups]);
    if (key === this.key) return;
    this.key = key;
    fill(
      this.channels,
      channels.length
        ? channels.map(channelCard)
        : h("p", { class: "muted" }, "There are none. Agents make them as they need them."),
    );
    fill(
      this.groups,
      groups.length
        ? groups.map(groupCard)
        : h("p", { class: "muted" }, "There are none. The network file names them under agent_groups."),
    );
  }
}

const MEMBERS = 30; // shown of a channel

/** @param {{channel: string, members: string[], private: boolean, created_by: string | null}} channel */
function channelCard(channel) {
  const { members } = channel;
  const parts = [
    channel.private ? "private" : null,
    channel.created_by ? `made by ${channel.created_by}` : null,
  ].filter(Boolean);
  return h(
    "article",
    { class: "card" },
    h("h2", {}, `#${channel.channel}`, " ", h("span", { class: "badge" }, format.plural(members.length, "member"))),
    h("p", { class: "chips" }, members.slice(0, MEMBERS).map(member)),
    members.length > MEMBERS ? h("p", { class: "muted" }, `and ${members.length - MEMBERS} more`) : null,
    parts.length ? h("p", { class: "muted" }, parts.join(" · ")) : null,
  );
}

/** @param {string} id */
function member(id) {
  const agent = id.replace(/^agent:/, "");
  return agent.includes(":")
    ? h("code", { class: "chip" }, agent)
    : h("a", { class: "chip", href: `#agents/${encodeURIComponent(agent)}` }, agent);
}

/**
 * @typedef {object} Group
 * @property {string} group
 * @property {number} agents
 * @property {boolean} configured
 * @property {string | null} description
 * @property {string[]} permissions
 * @property {string[]} send
 * @property {string[]} receive
 * @property {string | null} directory
 * @property {string[]} may_register
 * @property {boolean} has_password
 */

/** @param {Group} group */
function groupCard(group) {
  return h(
    "article",
    { class: "card" },
    h(
      "h2",
      {},
      group.group,
      " ",
      h("span", { class: "badge" }, format.plural(group.agents, "agent")),
      " ",
      group.has_password ? h("span", { class: "badge accent" }, "with a password") : null,
    ),
    group.description ? h("p", {}, group.description) : null,
    facts([
      ["May also", group.permissions.join(", ") || "nothing"],
      ["May send", group.send.join(", ") || "nothing"],
      ["May get", group.receive.join(", ") || "nothing"],
      ["Sees of others", group.directory ?? "as the network says"],
    ]),
  );
}
