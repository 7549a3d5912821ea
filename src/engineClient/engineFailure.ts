import type { ErrorCode } from "../../engine/protocol/api.ts";

/** Codes of the wire, and what only a client sees: no answer, an answer out of protocol, a daemon that does not start. */
export type FailureCode = ErrorCode | "unreachable" | "bad_answer" | "start_failed";

/** What went wrong between this client and the daemon, in one line. */
export class EngineFailure extends Error {
  readonly code: FailureCode;

  constructor(code: FailureCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "EngineFailure";
    this.code = code;
  }

  /** Whether `error` is a failure of this client, of `code` when one is given. */
  static is(error: unknown, code?: FailureCode): error is EngineFailure {
    return error instanceof EngineFailure && (code === undefined || error.code === code);
  }
}
