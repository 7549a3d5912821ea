/** `doctor`: looks at everything that a completion needs, in the order in which it is needed. */
import type { DeviceWish } from "../model/loadModel.ts";
import { PROTOCOL_VERSION } from "../protocol/api.ts";
import { resolveRuntimeDir } from "../protocol/runtime.ts";
import { type Check, ok } from "./check.ts";
import { backendCheck, completionCheck, modelFileCheck } from "./engineChecks.ts";
import { formatChecks } from "./formatChecks.ts";
import { cpuCheck, memoryCheck, nodeCheck } from "./machineChecks.ts";
import { daemonCheck, runtimeFolderCheck } from "./runtimeChecks.ts";

export interface DoctorOptions {
  version: string;
  modelPath: string;
  /** 0: all physical cores. */
  threads: number;
  device: DeviceWish;
}

/** Text for the terminal, or one line of JSON `{ok, checks}`, and the exit code: 1 when something fails. */
export async function runDoctor(
  options: DoctorOptions,
  asJson: boolean,
): Promise<{ text: string; exitCode: number }> {
  const checks = await allChecks(options);
  const healthy = checks.every(({ state }) => state !== "fail");
  const text = asJson ? `${JSON.stringify({ ok: healthy, checks })}\n` : formatChecks(checks);
  return { text, exitCode: healthy ? 0 : 1 };
}

async function allChecks({ version, modelPath, threads, device }: DoctorOptions): Promise<Check[]> {
  const dir = resolveRuntimeDir();
  const checks = [
    ok("engine", `version ${version}, protocol ${PROTOCOL_VERSION}`),
    nodeCheck(process.versions.node),
    cpuCheck(),
    memoryCheck(),
    runtimeFolderCheck(dir),
    await daemonCheck(dir, version),
  ];
  const needed = [backendCheck({ modelPath, threads, device }), modelFileCheck(modelPath)];
  checks.push(...needed);
  // Without these two a completion could only repeat what they said.
  if (needed.every(({ state }) => state !== "fail"))
    checks.push(completionCheck({ modelPath, threads, device }));
  return checks;
}
