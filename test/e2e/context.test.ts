/** The index as users run it: the command line's own, and the thread of the editor. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { ContextClient } from "../../src/context/contextClient.ts";
import { cliBundle, contextBundle } from "../support/engineBundle.ts";
import { TempWorkspace } from "../support/tempWorkspace.ts";

const TEXT = 'import { addMoney } from "./money";\n\nexport const sum = ';
const MONEY = "export function addMoney(left: number, right: number): number;\n";

let workspace: TempWorkspace;
beforeAll(() => {
  workspace = new TempWorkspace({
    "money.ts": MONEY,
    "cart.ts": TEXT,
    "ignored.ts": TEXT,
    ".gitignore": "ignored.ts\n",
  });
});
afterAll(() => workspace.clean());

describe("tidepool context", () => {
  function context(place: string, ...options: string[]) {
    const file = join(workspace.root, place);
    const args = [cliBundle(), "context", file, "--workspace", workspace.root, ...options];
    const env = { ...process.env, XDG_CACHE_HOME: workspace.storeFolder };
    return spawnSync(process.execPath, args, { encoding: "utf8", env });
  }

  test("writes the lines of other files, each file under its path", () => {
    const { stdout, status, stderr } = context("cart.ts:3:20", "--budget", "100");
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toBe(`#money.ts\n${MONEY}`);
  });

  test("says as JSON where the lines stand and why, and counts tokens", () => {
    const { stdout } = context("cart.ts:3:20", "--budget", "100", "--json");
    const { ms, snippets, ...rest } = JSON.parse(stdout) as {
      ms: number;
      snippets: { path: string; reason: string }[];
    };
    const tokens = Math.ceil((MONEY.length + 10) / 3.5);
    expect(rest).toEqual({ context: `#money.ts\n${MONEY}`, tokens });
    expect(snippets).toMatchObject([{ path: "money.ts", startLine: 1, endLine: 1 }]);
    expect(snippets[0]?.reason).toMatch(/^\w+$/);
    expect(ms).toBeGreaterThan(0);
  });

  test.each([
    ["cart.ts:3:20", ["--budget", "many"], 2, "expected a whole number of at least 0 for --budget"],
    ["cart.ts:3:20", [], 2, "--budget"],
    ["cart.ts:9:1", ["--budget", "9"], 1, "expected line 1 to 3"],
    ["missing.ts:1:1", ["--budget", "9"], 1, "cannot read"],
    ["ignored.ts:1:1", ["--budget", "9"], 1, "no context for ignored.ts: git ignores the file"],
  ])("refuses %s with %j in one line", (place, options, code, message) => {
    const { stdout, stderr, status } = context(place, ...options);
    expect(stdout).toBe("");
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(status).toBe(code);
  });
});

test("the editor's thread indexes a folder, follows it, and ends", async () => {
  const news: string[] = [];
  const options = {
    root: workspace.root,
    otherRoots: [],
    storeFolder: join(workspace.storeFolder, "thread"),
  };
  const client = new ContextClient(contextBundle(), options, {
    onNews: (text) => news.push(text),
    onIndexed: () => news.push("ready"),
  });
  const cursor = { path: "cart.ts", text: TEXT, offset: TEXT.length };
  const seen = async () => (await client.retrieve(cursor, 200, 20_000))?.context;
  await vi.waitFor(() => expect(news).toContain("ready"), { timeout: 20_000 });
  expect(news[0]).toMatch(/^indexed 3 files in \d+ ms$/);
  expect(await seen()).toContain(MONEY);
  client.edited("money.ts", "export function addMoney(unsaved: number): void;\n");
  await vi.waitFor(async () => expect(await seen()).toContain("unsaved"), { timeout: 20_000 });
  workspace.write("later.ts", "export function later(sum: number): void;\n");
  client.changed(["money.ts", "later.ts"]);
  await vi.waitFor(
    async () => {
      const context = await seen();
      expect(context).toContain("#later.ts");
      expect(context).toContain(MONEY);
    },
    { timeout: 20_000 },
  );
  await client.close();
  expect(client.isClosed).toBe(true);
  expect(await seen()).toBeUndefined();
});
