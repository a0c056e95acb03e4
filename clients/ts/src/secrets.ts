/** Where an agent keeps its secret between two runs, and how a password becomes what is sent. */

import { BadUse } from "./errors.js";

/** Keeps the secret of one agent. The methods may be asynchronous. */
export interface SecretStore {
  /** Return the secret; null if there is none. */
  load(): string | null | Promise<string | null>;
  save(secret: string): void | Promise<void>;
  remove(): void | Promise<void>;
}

/**
 * Keep the secret in a `Storage` of the browser: `localStorage` unless another one is given.
 *
 * Every script of the page's origin can read it there.
 */
export function storedSecret(key: string, storage: Storage = localStorage): SecretStore {
  return {
    load: () => storage.getItem(key),
    save: (secret) => storage.setItem(key, secret),
    remove: () => storage.removeItem(key),
  };
}

/** Return the SHA-256 of a password in lower-case hexadecimal digits: what the network takes. */
export async function passwordHash(password: string): Promise<string> {
  if (globalThis.crypto?.subtle === undefined) {
    throw new BadUse(
      "password: a page without HTTPS cannot compute its SHA-256; serve the page by HTTPS or from localhost, " +
        "or give passwordHash",
    );
  }
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(password));
  return hex(new Uint8Array(digest));
}

/** Return a random id of 128 bits. `crypto.randomUUID` is missing on pages without HTTPS. */
export function newEventId(): string {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
