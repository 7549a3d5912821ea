// Off means off: the whole extension over a scripted editor and a scripted engine, with everything counted that an engine
// or an index would have to do.
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type * as vscode from "vscode";
import { Document, editor, Uri } from "../../test/support/fakeEditor.ts";
import { TempWorkspace } from "../../test/support/tempWorkspace.ts";
import { deferred } from "../base/async.ts";
import { EngineConnection } from "../engineClient/connection.ts";
import { FakeEngine } from "../engineClient/fakeEngine.ts";
import { activate } from "../extension.ts";

const counted = vi.hoisted(() => ({
  socket: "",
  connects: 0,
  indexes: 0,
}));

vi.mock("./engineLaunch.ts", () => ({
  connectWithSettings: () => {
    counted.connects++;
    const connection = new EngineConnection(counted.socket);
    return connection.health().then((health) => ({ connection, health }));
  },
}));
vi.mock("../context/contextClient.ts", () => ({
  ContextClient: class {
    isClosed = false;
    constructor() {
      counted.indexes++;
    }
    retrieve() {
      const snippet = { path: "other.py", text: "other = 1", startLine: 1, endLine: 1, reason: "" };
      return Promise.resolve({ snippets: [snippet], tokens: 1, ms: 1 });
    }
    related() {
      return Promise.resolve([]);
    }
    close() {
      return Promise.resolve();
    }
  },
}));
vi.mock("../syntax/syntaxClient.ts", () => ({
  SyntaxClient: class {
    scopeAt() {
      return Promise.resolve(undefined);
    }
    literalsIn() {
      return Promise.resolve(undefined);
    }
    dispose() {
      return undefined;
    }
  },
}));

let engine: FakeEngine;
let workspace: TempWorkspace;
let subscriptions: { dispose(): unknown }[];

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"], shouldAdvanceTime: true });
  engine = await FakeEngine.start();
  Object.assign(counted, { socket: engine.socket, connects: 0, indexes: 0 });
  workspace = new TempWorkspace();
  editor.reset(workspace.root);
});
afterEach(async () => {
  for (const subscription of subscriptions) subscription.dispose();
  vi.useRealTimers();
  await engine.stop();
  workspace.clean();
});

function start(): void {
  subscriptions = [];
  activate({
    subscriptions,
    extensionUri: Uri.file(workspace.root),
    globalStorageUri: Uri.file(workspace.storeFolder),
    globalState: { get: () => undefined, update: () => Promise.resolve() },
    extensionMode: 1,
  } as unknown as vscode.ExtensionContext);
}

/** A document of the workspace, which is a file of it too. */
function documentOf(path: string, languageId = "python", text = "x = "): Document {
  workspace.write(path, text);
  return new Document(join(workspace.root, path), languageId, text);
}

/** Rests in a document until it would be read ahead, and types in it. */
async function use(document: Document): Promise<string[]> {
  editor.open(document);
  await vi.advanceTimersByTimeAsync(1000);
  const texts = await editor.ask(document);
  await editor.ask(document, true);
  return texts;
}

/** Files of everything that the engine was asked, for completions and ahead of time. */
const asked = () => new Set([...engine.requests, ...engine.prefills].map((one) => one.filename));

/** Uses a document in which nothing is off, and waits until it was asked about in both ways. */
async function useAllowed(): Promise<void> {
  const allowed = documentOf("allowed.go", "go");
  await expect.poll(() => engine.present).toBe(1);
  expect(await use(allowed)).toEqual(["fake"]);
  await expect.poll(() => engine.prefills.length).toBeGreaterThan(0);
}

test("when it is off, no engine is looked for, asked or told to read, and nothing is indexed", async () => {
  editor.set("tidepool.enable", false);
  start();
  expect(await use(documentOf("a.py"))).toEqual([]);
  expect(counted).toMatchObject({ connects: 0, indexes: 0 });
  expect(asked()).toEqual(new Set());
  // The same document, once it is on.
  editor.set("tidepool.enable", true);
  await useAllowed();
  expect(asked()).toEqual(new Set(["allowed.go"]));
});

test("in a language that is off, nothing is asked, read ahead or indexed", async () => {
  start();
  editor.set("tidepool.enableLanguages", { "*": true, python: false });
  expect(await use(documentOf("a.py"))).toEqual([]);
  expect(counted.indexes).toBe(0);
  await useAllowed();
  expect(asked()).toEqual(new Set(["allowed.go"]));
});

test("only in languages that are on, when all others are off", async () => {
  start();
  editor.set("tidepool.enableLanguages", { "*": false, go: true });
  expect(await use(documentOf("a.py"))).toEqual([]);
  await useAllowed();
  expect(asked()).toEqual(new Set(["allowed.go"]));
});

test("the toggle ends what runs, and nothing is asked until it is toggled again", async () => {
  const never = deferred<void>();
  engine.script = () => ({ pieces: ["val"], hold: never.promise });
  start();
  await expect.poll(() => engine.present).toBe(1);
  const document = documentOf("a.py");
  const running = editor.ask(document);
  await engine.received(1);
  await editor.run("tidepool.toggle");
  await expect(running).resolves.toEqual([]);
  await expect.poll(() => engine.cancelled).toBe(1);
  await expect.poll(() => engine.present).toBe(0);
  never.resolve();
  expect(await use(documentOf("b.py"))).toEqual([]);
  engine.script = () => ({ pieces: ["fake"] });
  await editor.run("tidepool.toggle");
  await useAllowed();
  expect(asked()).toEqual(new Set(["a.py", "allowed.go"]));
});

test.each([
  ["that git ignores", "built/a.py", "x = "],
  ["that .tidepoolignore names", "private/a.py", "x = "],
  ["with the name of a secret", ".env", "x = "],
  [
    "with a key in it",
    "keys.py",
    "key = '-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----'\nx = ",
  ],
])("in a file %s, nothing is asked, read ahead or indexed", async (_, path, text) => {
  workspace.write(".gitignore", "built/\n");
  workspace.write(".tidepoolignore", "private/\n");
  start();
  expect(await use(documentOf(path, "python", text))).toEqual([]);
  expect(counted.indexes).toBe(0);
  await useAllowed();
  expect(asked()).toEqual(new Set(["allowed.go"]));
});

test("in a workspace that is not trusted nothing is indexed, and no other file is in a prompt", async () => {
  editor.reset(workspace.root, false);
  start();
  await useAllowed();
  expect(counted.indexes).toBe(0);
  const extras = [...engine.requests, ...engine.prefills].map((one) => one.input_extra ?? []);
  expect(extras.every((extra) => extra.length === 0)).toBe(true);
});

test("where nothing is off, all of this happens", async () => {
  start();
  await useAllowed();
  expect(counted).toMatchObject({ connects: 1, indexes: 1 });
  expect(engine.requests[0]?.input_extra).toHaveLength(1);
});
