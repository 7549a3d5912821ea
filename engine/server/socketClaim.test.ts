import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { accepts, claimSocket } from "./socketClaim.ts";

let dir: string;
const servers: Server[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "tidepool-claim-"));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(dir, { recursive: true });
});

const shared = () => join(dir, "engine.sock");

/** A server that says its name, on a path of its own. */
async function serverNamed(name: string) {
  const own = join(dir, `${name}.sock`);
  const server = createServer((socket) => {
    // A probe hangs up without reading.
    socket.on("error", () => undefined);
    socket.end(name);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(own, resolve));
  return { name, own, server };
}

function ask(): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    connect(shared())
      .on("data", (chunk: Buffer) => {
        text += chunk.toString();
      })
      .on("end", () => resolve(text))
      .on("error", reject);
  });
}

test("a free path is taken, and released", async () => {
  const { own } = await serverNamed("a");
  const claim = await claimSocket(own, shared());
  expect(claim?.isOurs()).toBe(true);
  expect(await ask()).toBe("a");
  claim?.release();
  expect(claim?.isOurs()).toBe(false);
  expect(await accepts(shared())).toBe(false);
  expect(readdirSync(dir)).toEqual([]);
});

test("a path where somebody answers is not taken", async () => {
  const [a, b] = [await serverNamed("a"), await serverNamed("b")];
  await claimSocket(a.own, shared());
  expect(await claimSocket(b.own, shared())).toBeUndefined();
  expect(await ask()).toBe("a");
});

test("of two that replace a dead socket at once one owns it, and the other's end keeps it", async () => {
  writeFileSync(shared(), "left over");
  const both = [await serverNamed("a"), await serverNamed("b")];
  const claims = await Promise.all(both.map(({ own }) => claimSocket(own, shared())));
  const owners = both.filter((_, i) => claims[i]?.isOurs());
  expect(owners).toHaveLength(1);
  for (const [i, { server }] of both.entries()) {
    if (claims[i]?.isOurs()) continue;
    claims[i]?.release();
    await new Promise((resolve) => server.close(resolve));
  }
  expect(await ask()).toBe(owners[0]?.name);
});
