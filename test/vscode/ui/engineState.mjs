// Looks at the engine of a test's own runtime folder from outside, as any client may.
import { request } from "node:http";
import { isAlive, readEngineLock } from "../../../scripts/lib/engineProcess.mjs";

const POLL_MS = 50;

/** GET /tidepool/state over the engine's socket. */
export function engineState(runtimeDir) {
  const lock = readEngineLock(runtimeDir);
  if (lock === undefined) return Promise.reject(new Error(`no engine runs in ${runtimeDir}`));
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath: lock.socket, path: "/tidepool/state", agent: false },
      (answer) => {
        let body = "";
        answer.setEncoding("utf8");
        answer.on("data", (chunk) => {
          body += chunk;
        });
        answer.on("end", () => resolve(JSON.parse(body)));
      },
    );
    call.once("error", reject);
    call.end();
  });
}

/** How many requests the engine has accepted since it started. */
export async function acceptedRequests(runtimeDir) {
  const accepted = (await engineState(runtimeDir)).requests.accepted;
  if (!Number.isInteger(accepted)) throw new Error(`requests.accepted is no number: ${accepted}`);
  return accepted;
}

export function enginePid(runtimeDir) {
  const pid = readEngineLock(runtimeDir)?.pid;
  if (pid === undefined) throw new Error(`no engine runs in ${runtimeDir}`);
  return pid;
}

/** Ends the engine as a crash would and waits until it is gone. */
export async function killEngine(runtimeDir) {
  const pid = enginePid(runtimeDir);
  process.kill(pid, "SIGKILL");
  while (isAlive(pid)) await new Promise((go) => setTimeout(go, POLL_MS));
  return pid;
}
