/**
 * Write the types of the protocol into src/generated: `npm run generate`.
 *
 * They come from docs/openapi/frames.json and agents.json, which are printed from the network's code (`make docs`).
 * With `--check` nothing is written, and a difference is a failure.
 */

import { readFileSync, writeFileSync } from "node:fs";

import { compile } from "json-schema-to-typescript";

const documents = new URL("../../../docs/openapi/", import.meta.url);
const generated = new URL("../src/generated/", import.meta.url);

await write("frames.json", "frames.ts", (frames) => frames.$defs);
await write("agents.json", "api.ts", schemasOf);

async function write(document, file, definitionsOf) {
  const text = readFileSync(new URL(document, documents));
  const schema = { title: "All", $defs: plain(definitionsOf(JSON.parse(text))) };
  const types = await compile(schema, "All", {
    additionalProperties: false,
    bannerComment: "",
    format: true,
    style: { printWidth: 120 },
    unreachableDefinitions: true,
  });
  const head = `// Printed from docs/openapi/${document} by \`npm run generate\`; do not edit.\n\n`;
  keep(file, head + cleaned(types));
}

function keep(file, text) {
  const path = new URL(file, generated);
  if (!process.argv.includes("--check")) writeFileSync(path, text);
  else if (readFileSync(path, "utf8") !== text) {
    console.error(`src/generated/${file} is not what docs/openapi says; run: npm run generate`);
    process.exitCode = 1;
  }
}

/** Return the bodies of the agents' API by name: `SendEventRequest`, `SendEventAnswer`, … */
function schemasOf(api) {
  const found = { ...api.components.schemas };
  for (const [path, routes] of Object.entries(api.paths)) {
    for (const route of Object.values(routes)) {
      const name = named(path.split("/").at(-1));
      const request = route.requestBody?.content["application/json"]?.schema;
      const answer = route.responses?.["200"]?.content["application/json"]?.schema;
      if (request) found[`${name}Request`] = request;
      if (answer) found[`${name}Answer`] = answer;
    }
  }
  return JSON.parse(JSON.stringify(found).replaceAll("#/components/schemas/", "#/$defs/"));
}

function named(path) {
  return path.replace(/(?:^|_)(\w)/g, (_, letter) => letter.toUpperCase());
}

/** An object without stated properties is any mapping. */
function plain(schema) {
  if (Array.isArray(schema)) return schema.map(plain);
  if (schema === null || typeof schema !== "object") return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, plain(value)]));
  const isMapping = copy.type === "object" && copy.properties === undefined && copy.additionalProperties === undefined;
  return isMapping ? { ...copy, additionalProperties: {} } : copy;
}

/** Leave out the type of the root, which holds nothing, and what the compiler says of unreachable definitions. */
function cleaned(types) {
  return types
    .replace(/export interface All \{[^}]*\}\n+/, "")
    .replace(/ \*\n \* This interface was referenced by [\s\S]*?\.\n \*\//g, " */")
    .replace(/\/\*\*\n \* This interface was referenced by [\s\S]*?\*\/\n/g, "")
    .trimStart();
}
