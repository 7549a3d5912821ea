// A connection to an engine for one command.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { resolveModel } from "../../engine/protocol/modelNames.ts";
import { prepareRuntimeDir, readLock, resolveRuntimeDir } from "../../engine/protocol/runtime.ts";
import { delay } from "../base/async.ts";
import { connectDaemon, type DaemonLink } from "../engineClient/connectDaemon.ts";
import { DaemonProcess, type LaunchPlan } from "../engineClient/daemonProcess.ts";
import { engineScript, modelsFolder, productVersion } from "./productFiles.ts";

/** Time that a private daemon has to end by itself before it is ended. */
const GRACE_MS = 2000;

/**
 * Runs `work` with a ready engine: the user's daemon, or, when `model` is another file than that daemon's,
 * a private one in a runtime folder of its own that ends with the command, so that other clients keep their model.
 */
export async function withEngine<T>(
  model: string | undefined,
  work: (link: DaemonLink) => Promise<T>,
): Promise<T> {
  const wanted = model === undefined ? undefined : resolveModel(model, modelsFolder);
  if (wanted !== undefined && !existsSync(wanted))
    throw new Error(`expected a model file at ${wanted}, found none`);
  const shared = resolveRuntimeDir();
  if (wanted !== undefined && readLock(shared)?.model !== wanted)
    return withPrivateEngine(wanted, work);
  prepareRuntimeDir(shared);
  const link = await connect({
    script: engineScript(),
    args: [],
    runtimeDir: shared,
    detached: true,
  });
  try {
    return await work(link);
  } finally {
    link.connection.dispose();
  }
}

function connect(
  launch: LaunchPlan,
  start?: (plan: LaunchPlan) => DaemonProcess,
): Promise<DaemonLink> {
  const plan = {
    launch,
    needed: { version: productVersion() },
    readLock: () => readLock(launch.runtimeDir),
    ...(start && { start }),
  };
  return connectDaemon(plan, { signal: new AbortController().signal });
}

/** Runs `work` with a daemon of its own, which nobody else can disturb; `model` missing is the bundled one. */
export async function withPrivateEngine<T>(
  model: string | undefined,
  work: (link: DaemonLink) => Promise<T>,
): Promise<T> {
  const runtimeDir = mkdtempSync(join(tmpdir(), "tidepool-run-"));
  const launch = {
    script: engineScript(),
    args: [...(model === undefined ? [] : ["--model", model]), "--idle-exit", "10"],
    runtimeDir,
    detached: false,
  };
  let daemon: DaemonProcess | undefined;
  try {
    const link = await connect(launch, (plan) => {
      daemon = new DaemonProcess(plan);
      return daemon;
    });
    try {
      return await work(link);
    } finally {
      await link.connection.shutdown().catch(() => daemon?.kill("SIGTERM"));
      link.connection.dispose();
    }
  } finally {
    if (daemon) await ended(daemon);
    rmSync(runtimeDir, { recursive: true, force: true });
  }
}

async function ended(daemon: DaemonProcess): Promise<void> {
  const deadline = Date.now() + GRACE_MS;
  while (!daemon.exit && Date.now() < deadline) await delay(10);
  if (!daemon.exit) daemon.kill("SIGKILL");
}
