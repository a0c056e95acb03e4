/** What a reload may change besides the files: where the code lies, and the config. */

import { h } from "./dom.js";
import { configForm } from "./schema_form.js";

export class ReloadForm {
  /** @param {any} mod all that is known of it @param {any[]} available what could be loaded */
  constructor(mod, available) {
    const files = available.find((each) => each.mod_path === mod.mod_path); // they say more than mod.yaml alone
    const schema = mod.config_schema ?? files?.config_schema ?? null;
    this.path = h("input", { name: "path", placeholder: mod.mod_path, autocomplete: "off", spellcheck: "false" });
    this.changes = h("input", { type: "checkbox", name: "changes-config" });
    this.config = configForm(schema, mod.config ?? {});
    const config = h("div", { class: "section", hidden: true }, this.config.node);
    this.changes.addEventListener("change", () => (config.hidden = !this.changes.checked));
    this.element = h(
      "details",
      { class: "more-fields" },
      h("summary", {}, "With another path or config"),
      h(
        "label",
        { class: "field" },
        h("span", {}, "Path"),
        this.path,
        h("small", {}, "Where its code is from now on. Empty: where it is now."),
      ),
      h(
        "label",
        { class: "check" },
        this.changes,
        h("span", {}, "Replace the config ", h("small", {}, "A secret that is shown as *** must be said again.")),
      ),
      config,
    );
  }

  /** @returns {{path?: string, config?: any}} throws an Error with the name of the field */
  read() {
    /** @type {{path?: string, config?: any}} */
    const said = {};
    const path = this.path.value.trim();
    if (path !== "") said.path = path;
    if (this.changes.checked) said.config = this.config.read() ?? {};
    return said;
  }
}
