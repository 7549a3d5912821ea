import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeHub } from "../../test/support/fakeHub.ts";
import { download } from "./download.ts";
import { findHubFile, type HubAccess } from "./hubFile.ts";

const content = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 7 + (i >> 8)) & 255));
let hub: FakeHub;
let access: Required<Pick<HubAccess, "hubUrl" | "cacheDir">>;

async function start(paths?: readonly string[]): Promise<void> {
  hub = new FakeHub(content, paths);
  access = { hubUrl: await hub.start(), cacheDir: mkdtempSync(join(tmpdir(), "tidepool-hub-")) };
}

beforeEach(() => start());
afterEach(async () => {
  await hub.stop();
  rmSync(access.cacheDir, { recursive: true, force: true });
});

const pull = async (progress: (bytes: number) => void = () => undefined) =>
  download(await findHubFile({ repo: "owner/small" }, access), access, ({ bytes }) =>
    progress(bytes),
  );

describe("a download", () => {
  it("lies in the hub's cache under content and name, and is fetched once", async () => {
    const path = await pull();
    expect(readFileSync(path).equals(content)).toBe(true);
    expect(path).toMatch(/models--owner--small\/snapshots\/[0-9a-f]{40}\/small\.gguf$/);
    expect(realpathSync(path)).toBe(
      join(realpathSync(access.cacheDir), "models--owner--small", "blobs", hub.sha256),
    );
    const ref = join(access.cacheDir, "models--owner--small", "refs", "main");
    expect(path).toContain(readFileSync(ref, "utf8"));
    await pull();
    expect(hub.ranges).toEqual([undefined]);
  });

  it("goes on where a broken connection stopped, and tells how far it is", async () => {
    hub.breakAfter = 60_000;
    await expect(pull()).rejects.toThrow(/run the same command again to go on/);
    hub.breakAfter = Number.POSITIVE_INFINITY;
    const seen: number[] = [];
    expect(readFileSync(await pull((bytes) => seen.push(bytes))).equals(content)).toBe(true);
    const start = Number(/^bytes=(\d+)-$/.exec(hub.ranges[1] ?? "")?.[1]);
    expect(start).toBeGreaterThan(0);
    expect(seen[0]).toBeGreaterThan(start);
    expect(seen.at(-1)).toBe(content.length);
  });

  it("with another content than promised is refused and removed", async () => {
    hub.lies = true;
    await expect(pull()).rejects.toThrow(new RegExp(`SHA-256 ${hub.sha256}, found`));
    hub.lies = false;
    expect(readFileSync(await pull()).equals(content)).toBe(true);
    expect(hub.ranges).toEqual([undefined, undefined]);
  });
});

describe("finding a file", () => {
  const find = (repo: string, file?: string) => findHubFile({ repo, file }, access);

  it("names the choices when there are several", async () => {
    await hub.stop();
    await start(["a-q4.gguf", "a-q8.gguf", "README.md"]);
    await expect(find("owner/small")).rejects.toThrow(/--file, found a-q4.gguf, a-q8.gguf$/);
    expect((await find("owner/small", "a-q8.gguf")).path).toBe("a-q8.gguf");
  });

  it("says in one line what is missing", async () => {
    await expect(find("owner/other")).rejects.toThrow(
      /expected owner\/other on the hub, found nothing/,
    );
    await expect(find("owner/small", "none.gguf")).rejects.toThrow(/found no such file/);
    await expect(find("gated/model")).rejects.toThrow(/needs a token in HF_TOKEN/);
    await expect(find("nonsense")).rejects.toThrow(
      /expected a repository OWNER\/NAME, found nonsense/,
    );
  });

  it("refuses a path that leaves the cache", async () => {
    await hub.stop();
    await start(["../../evil.gguf"]);
    await expect(find("owner/small")).rejects.toMatchObject({ code: "bad_request" });
  });

  it("without a connection says so, and what else can be done", async () => {
    await hub.stop();
    const wanted = /cannot get owner\/small from the hub \(ECONNREFUSED\).*models add/;
    await expect(find("owner/small")).rejects.toThrow(wanted);
  });
});
