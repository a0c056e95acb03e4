/** Patterns of event names, as the network has them: an exact name, `a.*` (any depth below `a`), `*`. */

import { BadUse } from "./errors.js";

const PATTERN = /^(?:\*|[a-z0-9_]+(?:\.[a-z0-9_]+)*\.(?:\*|[a-z0-9_]+))$/;

/** Return the patterns, `["*"]` if there are none; throw `BadUse` for a wrong one. */
export function checkPatterns(patterns: readonly string[]): readonly string[] {
  for (const pattern of patterns) {
    if (typeof pattern !== "string" || !PATTERN.test(pattern)) {
      throw new BadUse(
        `pattern ${JSON.stringify(pattern)}: expected an event name ('chat.message'), a prefix ('chat.*') or '*'`,
      );
    }
  }
  return patterns.length > 0 ? patterns : ["*"];
}

/** Return whether the pattern matches the name of an event. */
export function matches(pattern: string, name: string): boolean {
  if (pattern === "*") return true;
  return pattern.endsWith(".*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
