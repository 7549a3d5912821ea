/** Opens the daemon's sockets. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { dirname, join } from "node:path";
import { getRequestListener } from "@hono/node-server";
import { EngineError } from "../base/errors.ts";
import type { Fetch } from "./app.ts";
import { claimSocket, type SocketClaim } from "./socketClaim.ts";

/** A server on the daemon's socket, and its claim to that path. */
export interface SocketListener {
  server: Server;
  claim: SocketClaim;
}

/** Serves on a Unix socket or named pipe; undefined when another process answers there. A dead socket file is replaced. */
export async function listenOnSocket(
  fetch: Fetch,
  path: string,
): Promise<SocketListener | undefined> {
  if (process.platform === "win32") return listenOnPipe(fetch, path);
  const own = join(dirname(path), `${process.pid}.sock`);
  // Left by a process that had our number and was killed.
  rmSync(own, { force: true });
  const server = await listen(fetch, { path: own });
  const claim = await claimSocket(own, path);
  if (claim !== undefined) return { server, claim };
  server.close();
  return undefined;
}

/** A pipe's name is free again as soon as its owner has ended, and the system gives it to one process only. */
async function listenOnPipe(fetch: Fetch, path: string): Promise<SocketListener | undefined> {
  try {
    const server = await listen(fetch, { path });
    return { server, claim: { isOurs: () => true, release: () => undefined } };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") return undefined;
    throw error;
  }
}

/** Serves on `address` (HOST:PORT; port 0: any). Throws `environment` when the address is not one or is taken. */
export async function listenOnAddress(fetch: Fetch, address: string): Promise<Server> {
  const match = /^(.+):(\d{1,5})$/.exec(address);
  const [, host, port] = match ?? [];
  if (host === undefined || Number(port) > 65_535) {
    throw new EngineError("environment", `expected --listen HOST:PORT, found ${address}`);
  }
  try {
    return await listen(fetch, { host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port) });
  } catch (cause) {
    throw new EngineError("environment", `cannot listen on ${address}: ${String(cause)}`, {
      cause,
    });
  }
}

/** HOST:PORT of a server that listens on TCP. */
export function addressOf(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === "string") return String(address);
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return `${host}:${address.port}`;
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
  fetch: Fetch,
  where: { path: string } | { host: string; port: number },
): Promise<Server> {
  const answer = getRequestListener(fetch, { overrideGlobalObjects: false });
  const server = createServer((request, response) => void answer(request, response));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => resolve(server));
  });
}
