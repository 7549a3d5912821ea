import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { crc32 } from "node:zlib";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TempWorkspace } from "../../test/support/tempWorkspace.ts";
import { buildRepositoryIndex, LiveIndex } from "./buildIndex.ts";
import { restoreIndex } from "./indexStore.ts";
import { RepositoryIndex } from "./repositoryIndex.ts";
import { retrieve } from "./retrieve.ts";

let workspace: TempWorkspace;

beforeEach(async () => {
  workspace = new TempWorkspace({ "a.ts": "export const alpha = 1;\n", "b.ts": "let beta;\n" });
  await build();
});

afterEach(() => workspace.clean());

const build = () =>
  buildRepositoryIndex({ root: workspace.root, storeFolder: workspace.storeFolder });

function stored(): string {
  const [name = ""] = readdirSync(workspace.storeFolder);
  return join(workspace.storeFolder, name);
}

async function restored(listed = ["a.ts", "b.ts"], root = workspace.root): Promise<string[]> {
  const index = new RepositoryIndex();
  await restoreIndex(index, { folder: workspace.storeFolder, root, listed: new Set(listed) });
  return [...index.files.keys()];
}

test("gives back what was kept, in a file that only its user may read", async () => {
  await expect(restored()).resolves.toEqual(["a.ts", "b.ts"]);
  expect(readdirSync(workspace.storeFolder)).toHaveLength(1);
  expect(statSync(stored()).mode & 0o777).toBe(0o600);
  expect(statSync(workspace.storeFolder).mode & 0o777).toBe(0o700);
});

test("keeps no name but those of the files", async () => {
  const live = new LiveIndex({ root: workspace.root, storeFolder: workspace.storeFolder });
  await live.refresh();
  const text = "let typedHere = alpha";
  retrieve(live.index, { path: "new.ts", text, offset: text.length }, 100);
  workspace.write("c.ts", "export const gamma = beta;\n");
  await live.refresh();
  const kept = readFileSync(stored(), "latin1");
  expect(kept).toContain("gamma");
  expect(kept).not.toContain("typedHere");
});

test("speaks of the same names when it was asked before it was read", async () => {
  const index = new RepositoryIndex();
  const text = "let typedHere = beta";
  const cursor = { path: "new.ts", text, offset: text.length - "beta".length };
  retrieve(index, cursor, 100);
  await restoreIndex(index, {
    folder: workspace.storeFolder,
    root: workspace.root,
    listed: new Set(["a.ts", "b.ts"]),
  });
  const names = [...(index.files.get("a.ts")?.ids ?? [])].map((id) => index.names.textOf(id));
  expect(names).toEqual(["export", "const", "alpha"]);
  const [definition] = index.files.get("a.ts")?.definitions ?? [];
  expect(index.names.textOf(definition?.name ?? -1)).toBe("alpha");
  expect(retrieve(index, cursor, 100).context).toContain("export const alpha = 1;");
});

test("leaves on disk what may no longer be read", async () => {
  await expect(restored(["b.ts"])).resolves.toEqual(["b.ts"]);
});

test("gives nothing for another folder", async () => {
  await expect(restored(["a.ts"], join(workspace.root, "other"))).resolves.toEqual([]);
});

test.each([
  ["is cut short", (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
  ["is empty", () => Buffer.alloc(0)],
  ["has one wrong byte", (bytes: Buffer) => withByte(bytes, bytes.length - 20)],
  ["is of another format", (bytes: Buffer) => reformatted(bytes)],
])("is built again when the file %s", async (_, change) => {
  writeFileSync(stored(), change(readFileSync(stored())));
  await expect(restored()).resolves.toEqual([]);
  expect((await build()).files.size).toBe(2);
  await expect(restored()).resolves.toEqual(["a.ts", "b.ts"]);
});

function withByte(bytes: Buffer, at: number): Buffer {
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes;
}

/** Whole, but its first part was written by another version. */
function reformatted(bytes: Buffer): Buffer {
  const end = 8 + bytes.readUInt32LE(4);
  const first = deserialize(bytes.subarray(8, end)) as { format: number };
  const content = serialize({ ...first, format: first.format + 1 });
  const head = Buffer.alloc(8);
  head.writeUInt32LE(crc32(content));
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content, bytes.subarray(end)]);
}
