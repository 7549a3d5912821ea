/** The engine's one error type. A message is one line and names what was expected and what was found. */
import type { ErrorCode } from "../protocol/api.ts";

/**
 * Why something failed: the codes that travel to clients, and those that only the engine and its operator see.
 * - `bad_model`: a model file is missing, damaged, or holds something that this engine does not implement.
 * - `bad_argument`: a native op or an internal interface was called with arguments that do not fit.
 * - `out_of_memory`, `device`: the backend could not get memory, or its device or addon failed.
 * - `environment`: runtime folder, socket, lock or log are not usable.
 */
export type EngineErrorCode =
  | ErrorCode
  | "bad_model"
  | "bad_argument"
  | "out_of_memory"
  | "device"
  | "environment";

export class EngineError extends Error {
  readonly code: EngineErrorCode;

  constructor(code: EngineErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "EngineError";
    this.code = code;
  }

  /** Whether `error` is an EngineError, and of `code` when one is given. */
  static is(error: unknown, code?: EngineErrorCode): error is EngineError {
    return error instanceof EngineError && (code === undefined || error.code === code);
  }
}

/** The message of anything that was thrown, for one-line reports. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
