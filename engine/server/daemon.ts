/** One daemon's life: socket, lock, serving, idle exit, draining. */
import type { Server } from "node:http";
import { join } from "node:path";
import { messageOf } from "../base/errors.ts";
import { EngineThread } from "../engineThread.ts";
import { PROTOCOL_VERSION } from "../protocol/api.ts";
import { prepareRuntimeDir, resolveRuntimeDir, socketPath } from "../protocol/runtime.ts";
import { App } from "./app.ts";
import { liveLock, removeLock, writeLock } from "./daemonLock.ts";
import { openLog } from "./daemonLog.ts";
import { listenOnAddress, listenOnSocket, readOrMakeToken } from "./listen.ts";

export interface DaemonOptions {
  /** The bundle: also the script of the engine's thread. */
  script: string;
  version: string;
  modelPath: string;
  threads: number;
  contextLength?: number;
  listen?: string;
  tokenFile?: string;
  idleExitMs: number;
  /** Writes a line for whoever started the daemon. */
  print: (line: string) => void;
}

const DRAIN_MS = 10_000;

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
  const log = openLog(dir);
  const { modelPath, threads, contextLength, version } = options;
  const engine = new EngineThread(options.script, {
    modelPath,
    threads,
    ...(contextLength === undefined ? {} : { contextLength }),
  });
  let stop: (why: string) => void = () => undefined;
  const stopping = new Promise<string>((resolve) => {
    stop = resolve;
  });
  let noteUse: (() => void) | undefined;
  const app = new App({
    engine,
    version,
    onShutdown: () => stop("asked to"),
    onUse: () => noteUse?.(),
  });
  noteUse = idleWatch(app, options.idleExitMs, () => stop("idle"));
  const servers: Server[] = [];
  try {
    const server = await listenOnSocket(app, socket);
    if (server === undefined) {
      options.print(`an engine already runs: socket ${socket}`);
      return 0;
    }
    servers.push(server);
    if (options.listen !== undefined) servers.push(await openAddress(options, engine, dir, stop));
    writeLock(dir, {
      pid: process.pid,
      socket,
      version,
      protocol: PROTOCOL_VERSION,
      model: modelPath,
    });
    options.print(`tidepool engine ${version}: pid ${process.pid}, socket ${socket}`);
    engine.onStatus((status) => log.info(status, "engine"));
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop(signal));
    noteUse();
    log.info({ why: await stopping }, "draining");
    await drain(app);
    return 0;
  } finally {
    removeLock(dir);
    for (const server of servers) server.closeAllConnections();
    for (const server of servers) server.close();
    await engine.close();
  }
}

async function openAddress(
  options: DaemonOptions,
  engine: EngineThread,
  dir: string,
  stop: (why: string) => void,
) {
  const tokenFile = options.tokenFile ?? join(dir, "token");
  const token = readOrMakeToken(tokenFile);
  const app = new App({
    engine,
    version: options.version,
    token,
    onShutdown: () => stop("asked to"),
  });
  const server = await listenOnAddress(app, options.listen ?? "");
  options.print(`listening on ${options.listen}, bearer token in ${tokenFile}`);
  return server;
}

/** Lets live requests end, for at most DRAIN_MS. */
async function drain(app: App): Promise<void> {
  app.drain();
  const deadline = Date.now() + DRAIN_MS;
  while (app.generations.nLive > 0 && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Calls `onIdle` once nobody has listened or asked for `idleMs`; the result is to be called at every change. */
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
