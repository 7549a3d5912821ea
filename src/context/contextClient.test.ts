import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ContextClient } from "./contextClient.ts";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tidepool-client-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A thread that runs `body`; `port` speaks to the client. */
function clientOf(name: string, body: string) {
  const script = join(folder, `${name}.cjs`);
  writeFileSync(
    script,
    `const { parentPort: port, workerData } = require("node:worker_threads");\n${body}`,
  );
  const news: string[] = [];
  const options = { root: "/project", otherRoots: ["/other"], storeFolder: "/store" };
  const client = new ContextClient(script, options, {
    onNews: (text) => news.push(text),
    onIndexed: () => news.push("indexed"),
  });
  return { client, news };
}

/** For threads that answer: starting one takes its time on a busy machine. */
const PATIENT_MS = 20_000;
const cursor = { path: "a.ts", text: "let a;", offset: 3 };
const ECHO = `port.on("message", (message) => port.postMessage({
  kind: "retrieved", id: message.id,
  retrieval: { snippets: [], context: JSON.stringify([message, workerData]), tokens: 0, ms: 0 },
}));`;

test("asks the thread, and starts it with its folder", async () => {
  const { client } = clientOf("echo", ECHO);
  const [one, two] = await Promise.all([
    client.retrieve(cursor, 100, PATIENT_MS),
    client.retrieve(cursor, 7, PATIENT_MS),
  ]);
  expect(JSON.parse(one?.context ?? "")).toEqual([
    { kind: "retrieve", id: 1, cursor, budgetTokens: 100 },
    {
      role: "tidepool-context",
      root: "/project",
      otherRoots: ["/other"],
      storeFolder: "/store",
    },
  ]);
  expect(two?.context).toContain('"budgetTokens":7');
  await client.close();
});

test("does not wait for a thread that is busy", async () => {
  const { client } = clientOf("busy", `port.on("message", () => undefined);`);
  await expect(client.retrieve(cursor, 100)).resolves.toBeUndefined();
  await client.close();
  await expect(client.retrieve(cursor, 100)).resolves.toBeUndefined();
});

/** A client whose thread answers with the places that it was told of. */
function toldClient() {
  return clientOf(
    "places",
    `const seen = [];
    port.on("message", (message) => message.kind === "visited"
      ? seen.push(message.place)
      : port.postMessage({ kind: "retrieved", id: message.id,
          retrieval: { snippets: [], context: JSON.stringify(seen), tokens: 0, ms: 0 } }));`,
  );
}

test("tells the thread where the user is, once for a few lines", async () => {
  const { client } = toldClient();
  for (const line of [40, 41, 43, 60]) client.visited({ path: "a.ts", line, isEdited: false });
  const found = await client.retrieve(cursor, 100, PATIENT_MS);
  expect(JSON.parse(found?.context ?? "")).toMatchObject([{ line: 40 }, { line: 60 }]);
  await client.close();
});

test("tells of a place that is typed at once, though every key edits it and moves the cursor", async () => {
  const { client } = toldClient();
  client.visited({ path: "a.ts", line: 40, isEdited: false });
  for (let key = 0; key < 5; key++)
    for (const isEdited of [true, false]) client.visited({ path: "a.ts", line: 41, isEdited });
  const found = await client.retrieve(cursor, 100, PATIENT_MS);
  expect(JSON.parse(found?.context ?? "")).toMatchObject([
    { line: 40, isEdited: false },
    { line: 41, isEdited: true },
  ]);
  await client.close();
});

test("passes on what the thread says", async () => {
  const { client, news } = clientOf(
    "news",
    `port.postMessage({ kind: "indexed", files: 3, ms: 12.3 });
    port.postMessage({ kind: "failed", message: "no parser" });
    port.on("message", ({ id }) => port.postMessage({ kind: "failed", id, message: "no index" }));`,
  );
  await expect(client.retrieve(cursor, 100, PATIENT_MS)).resolves.toBeUndefined();
  expect(news).toEqual([
    "indexed 3 files in 12 ms",
    "indexed",
    "no context: no parser",
    "no context: no index",
  ]);
  await client.close();
});

test("a thread that dies is told once, and asked no more", async () => {
  const { client, news } = clientOf(
    "dying",
    `port.on("message", () => { throw new Error("out of memory"); });`,
  );
  await expect(client.retrieve(cursor, 100, PATIENT_MS)).resolves.toBeUndefined();
  await vi.waitFor(() => expect(news).toEqual(["the index of /project stopped: out of memory"]), {
    timeout: PATIENT_MS,
  });
  expect(client.isClosed).toBe(true);
  client.changed(["a.ts"]);
  await expect(client.retrieve(cursor, 100, PATIENT_MS)).resolves.toBeUndefined();
  await client.close();
});
