/** The versions of a mod, and whose events each of them gets. */

import { actionButton } from "./actions.js";
import { Failure, get, may, modPath, post } from "./api.js";
import { button, notify } from "./dialog.js";
import { fill, h, setText } from "./dom.js";
import * as format from "./format.js";
import { stateBadge } from "./mods_view.js";

/**
 * @typedef {object} Version
 * @property {string} mod_id
 * @property {string | null} version
 * @property {string} state
 * @property {{percent?: number | null, groups: string[], agents: string[]} | null} audience
 * @property {string} reaches
 * @property {number | null} share
 * @property {number} events_in
 * @property {number} failed
 * @property {number | null} latency_p50_ms
 * @property {number | null} latency_p99_ms
 */

export class VersionsPart {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.list = h("div", { class: "versions" }, h("p", { class: "none" }, "Reading …"));
    this.element = h("section", { class: "part" }, this.list);
    this.key = "";
    this.touched = false; // a slider was moved, and waits for its answer
  }

  async show() {
    if (this.touched) return;
    let family;
    try {
      family = (await get(modPath(this.id, "/audience"))).data;
    } catch (error) {
      return fill(this.list, h("p", { class: "none" }, error instanceof Failure ? error.message : String(error)));
    }
    const key = JSON.stringify(family);
    if (key === this.key || this.touched) return;
    this.key = key;
    this.#draw(family);
  }

  /** @param {{family: string, default: string, promotions: number, versions: Version[]}} family */
  #draw(family) {
    const divided = family.versions.length > 1;
    fill(
      this.list,
      h(
        "div",
        { class: "versions-head" },
        h(
          "p",
          { class: "muted" },
          divided
            ? `${family.family} has ${family.versions.length} versions. Each source of events always meets the same one.`
            : ALONE,
        ),
        family.promotions > 0 ? actionButton("rollback", family.family) : null,
      ),
      family.versions.map((version) => this.#card(version, family.default, divided)),
    );
  }

  /** @param {Version} version @param {string} standard @param {boolean} divided */
  #card(version, standard, divided) {
    const isStandard = version.mod_id === standard;
    return h(
      "article",
      { class: "card version" },
      h(
        "div",
        { class: "version-head" },
        h("h2", {}, h("a", { href: `#mods/${encodeURIComponent(version.mod_id)}` }, version.mod_id)),
        stateBadge(version.state),
        h("span", { class: "muted" }, version.version ?? ""),
        isStandard ? h("span", { class: "badge accent" }, "for everyone else") : null,
        divided && !isStandard ? actionButton("promote", version.mod_id) : null,
      ),
      h(
        "p",
        {},
        `Gets the events of ${version.reaches}${version.share === null ? "." : `: ${format.percent(version.share * 100)} of the events since this was set.`}`,
      ),
      h(
        "dl",
        { class: "facts" },
        fact("Events", format.count(version.events_in)),
        fact("Failed", format.count(version.failed)),
        fact("p50", format.latency(version.latency_p50_ms)),
        fact("p99", format.latency(version.latency_p99_ms)),
      ),
      divided && !isStandard && may("operate") ? this.#slider(version) : null,
    );
  }

  /** @param {Version} version */
  #slider(version) {
    const before = version.audience?.percent ?? 0;
    const value = h("output", {}, `${before} %`);
    const slider = h("input", {
      type: "range",
      min: "0",
      max: "100",
      step: "1",
      value: String(before),
      "aria-label": `Percent of the sources whose events ${version.mod_id} gets`,
    });
    const asked = h("p", {});
    const sure = h(
      "div",
      { class: "sure", hidden: true },
      asked,
      button("Cancel", () => back()),
      button("Apply", () => void apply(), { kind: "main" }),
    );
    const back = () => {
      slider.value = String(before);
      moved();
    };
    const moved = () => {
      setText(value, `${slider.value} %`);
      const isNew = Number(slider.value) !== before;
      sure.hidden = !isNew;
      this.touched = isNew;
      if (isNew)
        setText(
          asked,
          `${version.mod_id} will get the events of ${slider.value} % of the sources, instead of ${before} %. No event is lost.`,
        );
    };
    const apply = async () => {
      slider.disabled = true;
      try {
        const answer = await post(modPath(version.mod_id, "/audience"), { percent: Number(slider.value) });
        notify(answer.message ?? "Done.", answer.success === false ? "bad" : "ok");
      } catch (error) {
        notify(error instanceof Failure ? error.message : String(error), "bad");
      }
      this.touched = false;
      this.key = "";
      await this.show();
    };
    slider.addEventListener("input", moved);
    return h("div", { class: "audience" }, h("label", {}, h("span", {}, "Share of the sources"), slider, value), sure);
  }
}

const ALONE =
  "There is one version. To try another one beside it, load it with the id of this mod, '@' and a name (wiki@2), and give it a part of the sources.";

/** @param {string} name @param {string} value */
function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}
