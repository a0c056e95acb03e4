/** Claims that hold in Node and in pages alike. */

export function equal(actual: unknown, expected: unknown, what = ""): void {
  const [given, wanted] = [shown(actual), shown(expected)];
  if (given !== wanted) throw new Error(`${what && `${what}: `}expected ${wanted}, got ${given}`);
}

export function ok(holds: unknown, what: string): asserts holds {
  if (!holds) throw new Error(`it does not hold that ${what}`);
}

/** Claim that a promise is rejected with an error of a class; return the error. */
export async function rejects<E extends Error>(
  promise: Promise<unknown>,
  kind: abstract new (...args: never[]) => E,
): Promise<E> {
  const error = await promise.then(
    (value) => new Error(`expected a rejection, got ${shown(value)}`),
    (reason: unknown) => reason,
  );
  if (error instanceof kind) return error;
  throw error;
}

/** Values as text: keys in order, bytes as numbers. */
function shown(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (part instanceof Uint8Array) return { bytes: [...part] };
    if (typeof part !== "object" || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
