/**
 * Build the package into dist/: `node scripts/build.mjs`. With `tests` also the tests, into build/tests.
 *
 * Each entry is one file that holds all it needs, so that a page can load it as it is. Only `ws` stays
 * outside: Node before version 22 needs it, and nobody else.
 */

import { execFile } from "node:child_process";
import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const common = { absWorkingDir: root, bundle: true, format: "esm", target: "es2022", logLevel: "warning" };
const withTests = process.argv.includes("tests");

for (const folder of ["dist", "build"]) await rm(`${root}/${folder}`, { recursive: true, force: true });
await mkdir(`${root}/dist`);
await Promise.all([bundle("index", "browser"), bundle("node", "node"), declarations(), license()]);
if (withTests) await Promise.all([tests(), cases()]);

async function bundle(name, platform) {
  const banner = { js: "// Holds @msgpack/msgpack, see msgpack.LICENSE.txt." };
  const mainFields = ["module", "main"];
  const entryPoints = [`src/${name}.ts`];
  await build({ ...common, entryPoints, outdir: "dist", external: ["ws"], platform, mainFields, banner });
}

async function declarations() {
  const tsc = `${root}/node_modules/typescript/bin/tsc`;
  const run = promisify(execFile)(process.execPath, [tsc, "--project", `${root}/tsconfig.build.json`]);
  await run.catch((failed) => {
    process.stderr.write(failed.stdout);
    throw new Error("the types do not fit");
  });
}

async function license() {
  await copyFile(`${root}/node_modules/@msgpack/msgpack/LICENSE`, `${root}/dist/msgpack.LICENSE.txt`);
}

/** Tests of parts hold the sources; tests of the whole import the package as it was built. */
async function tests() {
  const files = await readdir(`${root}/tests`, { recursive: true });
  const entryPoints = files.filter((file) => file.endsWith(".test.ts")).map((file) => `tests/${file}`);
  await build({
    ...common,
    entryPoints,
    outdir: "build/tests",
    outbase: "tests",
    platform: "node",
    packages: "external",
    external: ["@modvisor/client"],
  });
}

/** What a page runs. */
async function cases() {
  const entryPoints = ["tests/network/page.ts"];
  await build({ ...common, entryPoints, outdir: "build/page", platform: "browser", external: ["@modvisor/client"] });
}
