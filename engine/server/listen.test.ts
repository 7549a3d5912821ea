import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { addressOf, listenOnAddress, listenOnSocket, readOrMakeToken } from "./listen.ts";

let dir: string;
const servers: Server[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "tidepool-listen-"));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(dir, { recursive: true });
});

const shared = () => join(dir, "engine.sock");
const says = (text: string) => () => new Response(text);

async function listen(text: string) {
  const listener = await listenOnSocket(says(text), shared());
  if (listener !== undefined) servers.push(listener.server);
  return listener;
}

function ask(): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: shared(), agent: false }, (message) => {
      let text = "";
      message.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      message.on("end", () => resolve(text));
    });
    sent.on("error", reject);
    sent.end();
  });
}

test("serves on the shared path and leaves no other file", async () => {
  const listener = await listen("one");
  expect(await ask()).toBe("one");
  expect(readdirSync(dir)).toEqual(["engine.sock"]);
  expect(listener?.claim.isOurs()).toBe(true);
});

test("a socket that answers is left alone", async () => {
  await listen("one");
  expect(await listen("two")).toBeUndefined();
  expect(await ask()).toBe("one");
  expect(readdirSync(dir)).toEqual(["engine.sock"]);
});

test("a path where nobody answers is replaced", async () => {
  writeFileSync(shared(), "left over");
  await listen("one");
  expect(await ask()).toBe("one");
});

test("listens on a TCP address, and says which port it got", async () => {
  const server = await listenOnAddress(says("tcp"), "127.0.0.1:0");
  servers.push(server);
  expect(addressOf(server)).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
  expect(await (await fetch(`http://${addressOf(server)}`)).text()).toBe("tcp");
  await expect(listenOnAddress(says("again"), addressOf(server))).rejects.toThrow(
    /cannot listen on .*EADDRINUSE/,
  );
});

test.each(["nowhere", "127.0.0.1", "127.0.0.1:70000", ":80"])("%s is no address", async (text) => {
  await expect(listenOnAddress(says(""), text)).rejects.toThrow(
    `expected --listen HOST:PORT, found ${text}`,
  );
});

test("a token is made once, for its owner only; a short one is refused", () => {
  const path = join(dir, "token");
  const token = readOrMakeToken(path);
  expect(token.length).toBeGreaterThanOrEqual(40);
  expect(readOrMakeToken(path)).toBe(token);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  writeFileSync(path, "short\n");
  expect(() => readOrMakeToken(path)).toThrow(/at least 16 characters in .*token, found 5/);
});
