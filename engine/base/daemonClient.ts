/** What the engine's own commands ask a daemon; answers are checked, since anything could listen on the socket. */
import * as v from "valibot";
import { askSocket } from "./socketRequest.ts";

const healthSchema = v.object({
  status: v.picklist(["loading", "ready", "draining", "failed"]),
  version: v.string(),
  protocol: v.number(),
  pid: v.number(),
  reason: v.optional(v.string()),
});
const stateSchema = v.object({
  memory: v.object({ rssBytes: v.number() }),
  sequences: v.object({ running: v.number(), waiting: v.number() }),
});

export type DaemonHealth = v.InferOutput<typeof healthSchema>;
export type DaemonState = v.InferOutput<typeof stateSchema>;

/** Health of the daemon behind `socket`; undefined when nothing answers there as a daemon does. */
export async function askHealth(
  socket: string,
  timeoutMs?: number,
): Promise<DaemonHealth | undefined> {
  return await asked(socket, "/health", healthSchema, timeoutMs);
}

/** State of the daemon behind `socket`; undefined when nothing answers, or it is not ready. */
export async function askState(
  socket: string,
  timeoutMs?: number,
): Promise<DaemonState | undefined> {
  return await asked(socket, "/tidepool/state", stateSchema, timeoutMs);
}

async function asked<S extends v.GenericSchema>(
  socket: string,
  path: string,
  schema: S,
  timeoutMs: number | undefined,
): Promise<v.InferOutput<S> | undefined> {
  try {
    const { text } = await askSocket(socket, path, undefined, timeoutMs);
    const parsed = v.safeParse(schema, JSON.parse(text));
    return parsed.success ? parsed.output : undefined;
  } catch {
    // No socket, no answer in time, or no JSON: all mean that no ready daemon is there.
    return undefined;
  }
}
