/** The end of a daemon: what runs may finish, every answer is sent, then all listeners close. */
import type { Server } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import type { App } from "./app.ts";

/** Longest that requests which run may still take. */
const DRAIN_MS = 10_000;
/** Longest that their answers may take to be sent. */
const CLOSE_MS = 1000;
const LOOK_MS = 20;

/**
 * Refuses new requests, waits for those that run, calls `leave` (from then on a new daemon may take the place),
 * and closes the servers. Connections that are not done by the deadlines are cut.
 */
export async function drain(
  app: App,
  servers: readonly Server[],
  leave: () => void,
): Promise<void> {
  app.drain();
  await until(() => app.generations.nLive === 0, DRAIN_MS);
  leave();
  app.endEventStreams();
  let nOpen = servers.length;
  for (const server of servers) server.close(() => nOpen--);
  await until(() => {
    for (const server of servers) server.closeIdleConnections();
    return nOpen === 0;
  }, CLOSE_MS);
  for (const server of servers) server.closeAllConnections();
}

async function until(isDone: () => boolean, limitMs: number): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!isDone() && Date.now() < deadline) await delay(LOOK_MS);
}
