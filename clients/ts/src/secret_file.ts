/** The file in which an agent keeps its secret: readable by its user alone (mode 0600). As the Python client's. */

import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

import { messageOf } from "./codec.js";
import { BadUse } from "./errors.js";
import type { SecretStore } from "./secrets.js";

const MOST_BYTES = 1024;

/** Keep the secret in a file. A file that others may read is refused. */
export function fileSecret(path: string): SecretStore {
  return {
    load: () => read(path),
    save: (secret) => write(path, secret),
    remove: () => rm(path, { force: true }),
  };
}

async function read(path: string): Promise<string | null> {
  const file = await opened(path);
  if (file === null) return null;
  try {
    const mode = (await file.stat()).mode & 0o777;
    if (mode & 0o077) {
      throw new BadUse(`secret file ${path}: others may read it (mode ${mode.toString(8)}); run: chmod 600 ${path}`);
    }
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MOST_BYTES + 1), 0, MOST_BYTES + 1, 0);
    return secretIn(buffer.toString("latin1", 0, bytesRead), path);
  } finally {
    await file.close();
  }
}

async function opened(path: string) {
  try {
    return await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new BadUse(`secret file ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function secretIn(content: string, path: string): string | null {
  const text = content.trim();
  if (content.length > MOST_BYTES || !/^[\x20-\x7e]*$/.test(text)) {
    throw new BadUse(`secret file ${path}: expected the secret of an agent, one line of text; choose another file`);
  }
  return text || null;
}

/** Write the file at once and whole: a reader finds the old secret or the new one. */
async function write(path: string, secret: string): Promise<void> {
  const next = `${path}.${process.pid}.new`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await rm(next, { force: true });
    const file = await open(next, "wx", 0o600);
    await file.writeFile(`${secret}\n`);
    await file.sync();
    await file.close();
    await rename(next, path);
  } catch (error) {
    throw new BadUse(`secret file ${path}: cannot be written: ${messageOf(error)}`, { cause: error });
  }
}
