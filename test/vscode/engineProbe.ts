// Looks at the engine of this run's private runtime folder from inside the extension host.
import { request } from "node:http";
import type { EngineState, LockFile } from "../../engine/protocol/api.ts";
import { readLock, resolveRuntimeDir } from "../../engine/protocol/runtime.ts";

function lock(): LockFile {
  const folder = resolveRuntimeDir();
  const found = readLock(folder);
  if (found === undefined) throw new Error(`no engine runs in ${folder}`);
  return found;
}

export const enginePid = (): number => lock().pid;

/** GET /tidepool/state over the engine's socket. */
export function engineState(): Promise<EngineState> {
  const { socket } = lock();
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath: socket, path: "/tidepool/state", agent: false },
      (answer) => {
        let body = "";
        answer.setEncoding("utf8");
        answer.on("data", (chunk: string) => {
          body += chunk;
        });
        answer.on("end", () => resolve(JSON.parse(body) as EngineState));
      },
    );
    call.once("error", reject);
    call.end();
  });
}

/** Resolves when `condition` holds; rejects with `what` after `limitMs`. An engine that is not there yet counts as "not yet". */
export async function eventually(
  what: string,
  limitMs: number,
  condition: () => Promise<boolean>,
): Promise<void> {
  const endMs = Date.now() + limitMs;
  let last = "";
  while (Date.now() < endMs) {
    try {
      if (await condition()) return;
    } catch (error) {
      last = `: ${String(error)}`;
    }
    await new Promise((go) => setTimeout(go, 100));
  }
  throw new Error(`${what} within ${limitMs} ms${last}`);
}
