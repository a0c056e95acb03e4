/** How long to wait before the next attempt to connect. Pure. */

const FIRST_MS = 100;
const MOST_MS = 10_000;

/** Doubles the wait with each failure, and takes a random part off, so that agents do not come all at once. */
export class Backoff {
  #failures = 0;

  /** `dice` returns a number from 0 to 1. */
  constructor(private readonly dice: () => number = Math.random) {}

  /** Return the milliseconds to wait after a failure. */
  next(): number {
    const most = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(this.#failures, 16));
    this.#failures += 1;
    return most * (0.5 + this.dice() / 2);
  }

  /** Begin anew: a connection stands. */
  reset(): void {
    this.#failures = 0;
  }
}
