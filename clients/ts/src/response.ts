/** What became of an event that the agent sent. Pure. */

import { errorOf, type ErrorData, type ModvisorClientError } from "./errors.js";
import type { Answer } from "./wire.js";

export class EventResponse {
  /** Whether the event was handled or delivered. */
  readonly success: boolean;
  /** For people. */
  readonly message: string;
  /** The answer; of a failure, `data.error` is its code. */
  readonly data: unknown;
  readonly event_id: string | null;
  readonly event_name: string | null;

  constructor(answer: Answer) {
    this.success = answer.success === true;
    this.message = answer.message ?? "";
    this.data = answer.data;
    this.event_id = textOr(answer.event_id);
    this.event_name = textOr(answer.event_name);
  }

  /** The code of a failure, or null. */
  get error(): string | null {
    if (this.success) return null;
    const code = isMapping(this.data) ? this.data.error : null;
    return typeof code === "string" ? code : "internal_error";
  }

  /** To how many agents the event was delivered, if no mod answered it; else null. */
  get delivered(): number | null {
    const { data } = this;
    if (!this.success || !isMapping(data) || Object.keys(data).length !== 1) return null;
    return typeof data.delivered === "number" ? data.delivered : null;
  }

  /** Return the error of a failure. */
  exception(): ModvisorClientError {
    return errorOf(this.error ?? "internal_error", this.message, isMapping(this.data) ? this.data : {});
  }

  /** Return the response if it is a success, else throw its error. */
  check(): this {
    if (!this.success) throw this.exception();
    return this;
  }
}

export function isMapping(value: unknown): value is ErrorData {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

function textOr(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
