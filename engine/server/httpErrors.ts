/** Which HTTP status and wire code each error gets. */
import { EngineError, type EngineErrorCode, messageOf } from "../base/errors.ts";
import type { ErrorBody, ErrorCode } from "../protocol/api.ts";

type HttpStatus = 400 | 401 | 404 | 413 | 429 | 500 | 501 | 503;

const wire: Record<EngineErrorCode, { status: HttpStatus; code: ErrorCode; retryable: boolean }> = {
  bad_request: { status: 400, code: "bad_request", retryable: false },
  prompt_too_long: { status: 400, code: "prompt_too_long", retryable: false },
  body_too_large: { status: 413, code: "body_too_large", retryable: false },
  not_found: { status: 404, code: "not_found", retryable: false },
  not_ready: { status: 503, code: "not_ready", retryable: true },
  unauthorized: { status: 401, code: "unauthorized", retryable: false },
  overloaded: { status: 429, code: "overloaded", retryable: true },
  unsupported: { status: 501, code: "unsupported", retryable: false },
  internal: { status: 500, code: "internal", retryable: false },
  bad_model: { status: 500, code: "internal", retryable: false },
  bad_argument: { status: 500, code: "internal", retryable: false },
  out_of_memory: { status: 503, code: "overloaded", retryable: true },
  // The engine starts again, on the CPU if need be.
  device: { status: 500, code: "internal", retryable: true },
  environment: { status: 500, code: "internal", retryable: false },
};

/** Body of an error with `code`; the message is cut to one line. */
export function errorBody(code: EngineErrorCode, message: string): ErrorBody {
  const { code: wireCode, retryable } = wire[code];
  return {
    error: { code: wireCode, message: message.replaceAll(/\s*[\r\n]+\s*/g, " "), retryable },
  };
}

/**
 * The answer to a request that failed with `error`. What is left of a body that is too large is thrown away for a while
 * by the HTTP adapter, so that the sender gets to read the answer, and then the connection is cut.
 */
export function errorResponse(error: unknown): Response {
  const code = EngineError.is(error) ? error.code : "internal";
  return Response.json(errorBody(code, messageOf(error)), { status: wire[code].status });
}
