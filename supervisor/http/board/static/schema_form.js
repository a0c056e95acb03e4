/**
 * A form made from a JSON Schema: texts, numbers, switches, choices, lists of texts, and objects of these.
 *
 * What it cannot make a field of becomes a box for JSON, so every config can be said.
 */

import { h } from "./dom.js";

/** @typedef {Record<string, any>} Schema */

/**
 * @typedef {object} Field
 * @property {Node} node
 * @property {() => any} read what was said; undefined: nothing. Throws an Error with the name of the field.
 */

const MASKED = "***"; // what the network shows of a secret

/**
 * @param {Schema | null} schema of the whole config
 * @param {Record<string, any>} [now] the config as it is
 * @returns {Field}
 */
export function configForm(schema, now = {}) {
  if (schema === null || !isObject(schema)) {
    const said = Object.keys(now).length ? now : undefined;
    return jsonField("Config", "config", {}, false, "A JSON object, or nothing.", said);
  }
  return objectField(schema, "", now);
}

/** @param {Schema} schema */
function isObject(schema) {
  return schema.properties !== undefined && (schema.type === undefined || schema.type === "object");
}

/** @param {Schema} schema @param {string} path @param {any} now @returns {Field} */
function objectField(schema, path, now) {
  const required = new Set(schema.required ?? []);
  /** @type {[string, Field][]} */
  const fields = Object.entries(schema.properties).map(([key, each]) => [
    key,
    fieldOf(key, /** @type {Schema} */ (each), path ? `${path}.${key}` : key, required.has(key), now?.[key]),
  ]);
  const read = () => {
    /** @type {Record<string, any>} */
    const said = {};
    for (const [key, field] of fields) {
      const value = field.read();
      if (value !== undefined) said[key] = value;
    }
    return Object.keys(said).length || path === "" ? said : undefined;
  };
  return {
    node: h(
      "div",
      { class: "fields" },
      fields.map(([, field]) => field.node),
    ),
    read,
  };
}

/** @param {string} key @param {Schema} schema @param {string} path @param {boolean} required @param {any} now @returns {Field} */
function fieldOf(key, schema, path, required, now) {
  const title = schema.title ?? key.replaceAll("_", " ");
  const note = noteOf(schema);
  if (Array.isArray(schema.enum)) return choiceField(title, path, schema, required, note, now);
  switch (schema.type) {
    case "string":
      return textField(title, path, schema, required, note, now);
    case "integer":
    case "number":
      return numberField(title, path, schema, required, note, now);
    case "boolean":
      return switchField(title, schema, note, now);
    case "array":
      if (schema.items?.type === "string") return listField(title, path, schema, required, note, now);
      break;
    case "object":
      if (isObject(schema)) {
        const inner = objectField(schema, path, now);
        return {
          node: h("fieldset", {}, h("legend", {}, title), note ? h("small", {}, note) : null, inner.node),
          read: inner.read,
        };
      }
  }
  return jsonField(title, path, schema, required, note, now);
}

/** @param {Schema} schema */
function noteOf(schema) {
  const parts = [];
  if (schema.description) parts.push(schema.description);
  if (schema.minimum !== undefined && schema.maximum !== undefined)
    parts.push(`${schema.minimum} to ${schema.maximum}`);
  else if (schema.minimum !== undefined) parts.push(`at least ${schema.minimum}`);
  else if (schema.maximum !== undefined) parts.push(`at most ${schema.maximum}`);
  return parts.join(" · ");
}

/** @param {string} title @param {boolean} required @param {string} note @param {Node} input */
function labelled(title, required, note, input) {
  return h(
    "label",
    { class: "field" },
    h("span", {}, title, required ? h("i", { class: "required" }, " required") : null),
    input,
    note ? h("small", {}, note) : null,
  );
}

/** @param {Schema} schema */
function standard(schema) {
  return schema.default === undefined
    ? undefined
    : typeof schema.default === "string"
      ? schema.default
      : JSON.stringify(schema.default);
}

/** @param {string} title @param {string} path @param {Schema} schema @param {boolean} required @param {string} note @param {any} [now] @returns {Field} */
function textField(title, path, schema, required, note, now) {
  const secret = schema.format === "password" || schema.writeOnly === true;
  const input = h("input", {
    name: path,
    type: secret ? "password" : "text",
    required,
    placeholder: standard(schema),
    pattern: schema.pattern,
    minlength: schema.minLength,
    maxlength: schema.maxLength,
    autocomplete: "off",
    value: typeof now === "string" && now !== MASKED ? now : null,
  });
  return { node: labelled(title, required, note, input), read: () => (input.value === "" ? undefined : input.value) };
}

/** @param {string} title @param {string} path @param {Schema} schema @param {boolean} required @param {string} note @param {any} [now] @returns {Field} */
function numberField(title, path, schema, required, note, now) {
  const input = h("input", {
    name: path,
    type: "number",
    required,
    placeholder: standard(schema),
    min: schema.minimum,
    max: schema.maximum,
    step: schema.type === "integer" ? "1" : "any",
    value: typeof now === "number" ? now : null,
  });
  return {
    node: labelled(title, required, note, input),
    read: () => (input.value === "" ? undefined : Number(input.value)),
  };
}

/** @param {string} title @param {Schema} schema @param {string} note @param {any} now @returns {Field} */
function switchField(title, schema, note, now) {
  const input = h("input", { type: "checkbox", checked: (now ?? schema.default) === true });
  const node = h("label", { class: "check" }, input, h("span", {}, title, note ? h("small", {}, ` ${note}`) : null));
  // What is as it is by default is not said: then a new default of the mod holds.
  return { node, read: () => (input.checked === (schema.default === true) ? undefined : input.checked) };
}

/** @param {string} title @param {string} path @param {Schema} schema @param {boolean} required @param {string} note @param {any} [now] @returns {Field} */
function choiceField(title, path, schema, required, note, now) {
  const choices = schema.enum.map((/** @type {any} */ value, /** @type {number} */ index) =>
    h("option", { value: String(index), selected: value === now }, String(value)),
  );
  const none = h("option", { value: "" }, schema.default === undefined ? "–" : `${schema.default} (default)`);
  const input = h("select", { name: path, required }, none, choices);
  return {
    node: labelled(title, required, note, input),
    read: () => (input.value === "" ? undefined : schema.enum[Number(input.value)]),
  };
}

/** @param {string} title @param {string} path @param {Schema} schema @param {boolean} required @param {string} note @param {any} [now] @returns {Field} */
function listField(title, path, schema, required, note, now) {
  const input = h("textarea", { name: path, required, placeholder: (schema.default ?? []).join("\n"), rows: "3" });
  if (Array.isArray(now)) input.value = now.join("\n");
  const read = () => {
    const lines = input.value
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
    return lines.length ? lines : undefined;
  };
  return { node: labelled(title, required, [note, "one a line"].filter(Boolean).join(" · "), input), read };
}

/** @param {string} title @param {string} path @param {Schema} schema @param {boolean} required @param {string} note @param {any} [now] @returns {Field} */
function jsonField(title, path, schema, required, note, now) {
  const input = h("textarea", {
    name: path,
    required,
    placeholder: standard(schema) ?? "{}",
    rows: "4",
    spellcheck: "false",
  });
  if (now !== undefined) input.value = JSON.stringify(now, null, 2);
  const read = () => {
    if (input.value.trim() === "") return undefined;
    try {
      return JSON.parse(input.value);
    } catch (error) {
      throw new Error(`${title}: expected JSON: ${error instanceof Error ? error.message : error}`);
    }
  };
  return { node: labelled(title, required, [note, "JSON"].filter(Boolean).join(" · "), input), read };
}
