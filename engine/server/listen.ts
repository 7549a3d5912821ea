/** Opens the daemon's sockets. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { getRequestListener } from "@hono/node-server";
import { EngineError } from "../base/errors.ts";
import type { App } from "./app.ts";
import { accepts } from "./daemonLock.ts";

/** Serves `app` on a Unix socket or named pipe; undefined when another process answers there. A dead socket file is replaced. */
export async function listenOnSocket(app: App, path: string): Promise<Server | undefined> {
  try {
    return await listen(app, { path });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
    if (await accepts(path)) return undefined;
    rmSync(path, { force: true });
    return await listen(app, { path });
  }
}

/** Serves `app` on `address` (HOST:PORT). Throws `environment` when the address is not one or is taken. */
export async function listenOnAddress(app: App, address: string): Promise<Server> {
  const match = /^(.+):(\d{1,5})$/.exec(address);
  const [, host, port] = match ?? [];
  if (host === undefined || Number(port) > 65_535) {
    throw new EngineError("environment", `expected --listen HOST:PORT, found ${address}`);
  }
  try {
    return await listen(app, { host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port) });
  } catch (cause) {
    throw new EngineError("environment", `cannot listen on ${address}: ${String(cause)}`, {
      cause,
    });
  }
}

/** The token in `path`; a new one is written there, for its owner only, when the file is missing. */
export function readOrMakeToken(path: string): string {
  if (!existsSync(path))
    writeFileSync(path, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  const token = readFileSync(path, "utf8").trim();
  if (token.length < 16) {
    throw new EngineError(
      "environment",
      `expected a token of at least 16 characters in ${path}, found ${token.length}`,
    );
  }
  return token;
}

function listen(
  app: App,
  where: { path: string } | { host: string; port: number },
): Promise<Server> {
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer((request, response) => void answer(request, response));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => resolve(server));
  });
}
