/** Reads and checks request bodies: bounded, UTF-8, JSON, and of the expected shape. */
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";

export const MAX_BODY_BYTES = 32 * 1024 * 1024;

/** The body of `request` checked by `schema`. Throws `body_too_large` or `bad_request`. */
export async function readBody<S extends v.GenericSchema>(
  request: Request,
  schema: S,
): Promise<v.InferOutput<S>> {
  const value = parseJson(await readBytes(request));
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const where = v.getDotPath(issue) ?? "the body";
  throw new EngineError(
    "bad_request",
    `${where}: expected ${issue.expected ?? "another value"}, found ${issue.received}`,
  );
}

async function readBytes(request: Request): Promise<Uint8Array> {
  const tooLarge = (found: string) =>
    new EngineError(
      "body_too_large",
      `expected a body of at most ${MAX_BODY_BYTES} bytes, found ${found}`,
    );
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > MAX_BODY_BYTES) throw tooLarge(String(declared));
  const chunks: Uint8Array[] = [];
  let nBytes = 0;
  const stream = request.body as AsyncIterable<Uint8Array> | null;
  if (stream === null) return new Uint8Array(0);
  for await (const chunk of stream) {
    nBytes += chunk.length;
    if (nBytes > MAX_BODY_BYTES) throw tooLarge("more");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new EngineError("bad_request", "expected a body in UTF-8, found other bytes", { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EngineError("bad_request", `expected a body in JSON: ${String(cause)}`, { cause });
  }
}
