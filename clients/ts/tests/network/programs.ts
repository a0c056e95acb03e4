/** Programs in processes of their own, which import the package as users do. */

import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The folder of the package. */
export const ROOT = new URL("../../../", import.meta.url);

/** Run a program in a file of the package; return what it prints. */
export async function run(name: string, program: string, env: Record<string, string>): Promise<string> {
  const path = fileURLToPath(new URL(`build/${name}.js`, ROOT));
  await writeFile(path, program);
  const given = { env: { ...process.env, ...env }, timeout: 20_000 };
  return (await promisify(execFile)(process.execPath, [path], given)).stdout;
}
