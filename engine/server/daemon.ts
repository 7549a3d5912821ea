/** One daemon's life: socket, lock, serving, idle exit, draining. */
import type { Server } from "node:http";
import { join } from "node:path";
import { messageOf } from "../base/errors.ts";
import type { EngineOptions } from "../engine.ts";
import { HostedEngine } from "../hostedEngine.ts";
import { type LockFile, PROTOCOL_VERSION } from "../protocol/api.ts";
import { prepareRuntimeDir, readLock, resolveRuntimeDir, socketPath } from "../protocol/runtime.ts";
import { App } from "./app.ts";
import { liveLock, removeLock, writeLock } from "./daemonLock.ts";
import { openLog } from "./daemonLog.ts";
import { drain } from "./drain.ts";
import { addressOf, listenOnAddress, listenOnSocket, readOrMakeToken } from "./listen.ts";
import type { SocketClaim } from "./socketClaim.ts";

export interface DaemonOptions {
  /** The bundle: also the script of the engine's thread. */
  script: string;
  version: string;
  modelPath: string;
  threads: number;
  device: NonNullable<EngineOptions["device"]>;
  contextLength?: number;
  kvCache?: NonNullable<EngineOptions["kvCache"]>;
  drafts: boolean;
  listen?: string;
  tokenFile?: string;
  idleExitMs: number;
  /** 0: never. */
  gpuIdleMs: number;
  /** Writes a line for whoever started the daemon. */
  print: (line: string) => void;
}

/** How often the daemon looks whether it can still be found. */
const WATCH_MS = 500;

/** Serves until it is told to stop or nobody needs it; resolves with the exit code. Throws when it cannot start. */
export async function runDaemon(options: DaemonOptions): Promise<number> {
  const dir = resolveRuntimeDir();
  prepareRuntimeDir(dir);
  const socket = socketPath(dir);
  const other = await liveLock(dir);
  if (other !== undefined) {
    options.print(`an engine already runs: pid ${other.pid}, socket ${other.socket}`);
    return 0;
  }
  const { modelPath, threads, device, contextLength, kvCache, drafts } = options;
  const engine = new HostedEngine(
    options.script,
    {
      modelPath,
      threads,
      device,
      drafts,
      ...(contextLength === undefined ? {} : { contextLength }),
      ...(kvCache === undefined ? {} : { kvCache }),
    },
    { gpuIdleMs: options.gpuIdleMs },
  );
  try {
    return await serve(options, engine, dir, socket);
  } finally {
    await engine.close();
  }
}

/** Opens the sockets, serves until a reason to stop comes up, and lets what runs end. */
async function serve(
  options: DaemonOptions,
  engine: HostedEngine,
  dir: string,
  socket: string,
): Promise<number> {
  let stop: (why: string) => void = () => undefined;
  const stopping = new Promise<string>((resolve) => {
    stop = resolve;
  });
  const app = new App({
    engine,
    version: options.version,
    onShutdown: () => stop("asked to"),
    onUse: () => noteUse(),
  });
  const noteUse = idleWatch(app, options.idleExitMs, () => stop("idle"));
  const listener = await listenOnSocket(app.routes(), socket);
  if (listener === undefined) {
    options.print(`an engine already runs: socket ${socket}`);
    return 0;
  }
  const servers: Server[] = [listener.server];
  let watch: NodeJS.Timeout | undefined;
  try {
    if (options.listen !== undefined) servers.push(await openAddress(app, options, dir));
    watch = keepFindable(dir, lockOf(options, socket), listener.claim, stop);
    options.print(`tidepool engine ${options.version}: pid ${process.pid}, socket ${socket}`);
    const log = openLog(dir);
    let told: readonly string[] = [];
    engine.onStatus((status) => {
      log.info(status, "engine");
      const { notes = told, phase, reason } = status;
      if (notes !== told) for (const note of notes) options.print(note);
      told = notes;
      if (phase === "loading" && reason !== undefined) options.print(reason);
    });
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop(signal));
    noteUse();
    log.info({ why: await stopping }, "draining");
    return 0;
  } finally {
    await drain(app, servers, () => {
      clearInterval(watch);
      if (listener.claim.isOurs()) removeLock(dir);
      listener.claim.release();
    });
  }
}

function lockOf({ version, modelPath: model }: DaemonOptions, socket: string): LockFile {
  return { pid: process.pid, socket, version, protocol: PROTOCOL_VERSION, model };
}

/**
 * Writes the lock, and looks from time to time whether it still leads here. A daemon whose socket was taken over or
 * removed serves nobody new, so it ends; one whose lock was lost writes it again.
 */
function keepFindable(
  dir: string,
  lock: LockFile,
  claim: SocketClaim,
  stop: (why: string) => void,
): NodeJS.Timeout {
  writeLock(dir, lock);
  const timer = setInterval(() => {
    if (!claim.isOurs()) return stop("the socket is no longer ours");
    if (readLock(dir)?.pid === lock.pid) return;
    try {
      writeLock(dir, lock);
    } catch (error) {
      stop(`the lock cannot be written: ${messageOf(error)}`);
    }
  }, WATCH_MS);
  return timer.unref();
}

async function openAddress(app: App, options: DaemonOptions, dir: string): Promise<Server> {
  const tokenFile = options.tokenFile ?? join(dir, "token");
  const server = await listenOnAddress(
    app.routes(readOrMakeToken(tokenFile)),
    options.listen ?? "",
  );
  options.print(`listening on ${addressOf(server)}, bearer token in ${tokenFile}`);
  return server;
}

/** Calls `onIdle` once nobody has listened or asked for `idleMs`; the result is to be called at every use. */
function idleWatch(app: App, idleMs: number, onIdle: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  return () => {
    clearTimeout(timer);
    timer = undefined;
    if (app.nClients > 0 || app.generations.nLive > 0) return;
    timer = setTimeout(onIdle, idleMs);
    // The open sockets keep the daemon alive; the timer alone must not, or it would outlive draining.
    timer.unref();
  };
}

/** A one-line reason for the user. */
export function startFailure(error: unknown): string {
  return `tidepool engine: ${messageOf(error).replaceAll(/\s*[\r\n]+\s*/g, " ")}`;
}
