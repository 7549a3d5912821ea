/** Native calls, and what their failures become. */
import { EngineError, type EngineErrorCode, messageOf } from "../base/errors.ts";

const NATIVE_CODES: readonly EngineErrorCode[] = [
  "bad_argument",
  "out_of_memory",
  "device",
  "internal",
];

/** Runs a native call; what it throws becomes an EngineError with the addon's code. */
export function guard<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const code = NATIVE_CODES.find((known) => codeOf(error) === known) ?? "internal";
    throw new EngineError(code, messageOf(error), { cause: error });
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}
