// Everything the daemon says passes here once; past this file it is trusted.
import * as v from "valibot";
import type {
  EngineEvents,
  Health,
  InfillPiece,
  InfillResponse,
} from "../../engine/protocol/api.ts";
import { EngineFailure, type FailureCode } from "./engineFailure.ts";

const model = v.object({
  id: v.string(),
  path: v.string(),
  contextLength: v.number(),
  device: v.string(),
  fim: v.boolean(),
});

const health = v.object({
  status: v.picklist(["loading", "ready", "draining", "failed"]),
  version: v.string(),
  protocol: v.number(),
  pid: v.number(),
  reason: v.exactOptional(v.string()),
  model: v.exactOptional(model),
});

const infillPiece = v.object({
  stop: v.literal(false),
  content: v.string(),
  tokens: v.array(v.number()),
  tokens_evaluated: v.number(),
  tokens_cached: v.number(),
  logprobs: v.array(v.number()),
  texts: v.array(v.string()),
  timings: v.exactOptional(v.object({ queue_ms: v.number(), prompt_ms: v.number() })),
});

const stopType = v.picklist(["eos", "limit", "word", "none"]);

const infillResponse = v.object({
  content: v.string(),
  stop: v.literal(true),
  stop_type: stopType,
  model: v.string(),
  tokens: v.array(v.number()),
  logprobs: v.array(v.number()),
  texts: v.array(v.string()),
  alternatives: v.exactOptional(
    v.array(
      v.object({
        content: v.string(),
        stop_type: stopType,
        logprobs: v.array(v.number()),
        texts: v.array(v.string()),
      }),
    ),
  ),
  tokens_predicted: v.number(),
  tokens_evaluated: v.number(),
  tokens_cached: v.number(),
  timings: v.object({ queue_ms: v.number(), prompt_ms: v.number(), predicted_ms: v.number() }),
});

const infillEvent = v.variant("stop", [infillPiece, infillResponse]);

const codes = [
  "bad_request",
  "prompt_too_long",
  "body_too_large",
  "not_found",
  "not_ready",
  "unauthorized",
  "overloaded",
  "unsupported",
  "internal",
] as const satisfies FailureCode[];

const errorBody = v.object({
  error: v.object({ code: v.picklist(codes), message: v.string(), retryable: v.boolean() }),
});

const activity = v.object({
  running: v.number(),
  waiting: v.number(),
  prefill: v.exactOptional(v.object({ done: v.number(), total: v.number() })),
});

function parseJson<T>(schema: v.GenericSchema<unknown, T>, text: string, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new EngineFailure(
      "bad_answer",
      `expected JSON from ${what}, found ${excerpt(text)}`,
      cause,
    );
  }
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const where = v.getDotPath(issue) ?? "the whole answer";
  throw new EngineFailure(
    "bad_answer",
    `unexpected answer from ${what} at ${where}: ${issue.message}`,
  );
}

function excerpt(text: string): string {
  return text === "" ? "nothing" : JSON.stringify(text.slice(0, 80));
}

export function parseHealth(text: string): Health {
  return parseJson(health, text, "/health");
}

export function parseActivity(text: string): EngineEvents["activity"] {
  return parseJson(activity, text, "/tidepool/events");
}

/** One event of a streamed /infill answer. */
export function parseInfillEvent(text: string): InfillPiece | InfillResponse {
  return parseJson(infillEvent, text, "/infill");
}

/** The failure that an error body stands for; a body of another form gives `bad_answer` with the HTTP status. */
export function parseErrorBody(text: string, status: number, path: string): EngineFailure {
  try {
    const { error } = parseJson(errorBody, text, path);
    return new EngineFailure(error.code, error.message);
  } catch (cause) {
    return new EngineFailure("bad_answer", `HTTP ${status} from ${path}: ${excerpt(text)}`, cause);
  }
}
