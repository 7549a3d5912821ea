import { afterEach, expect, test } from "vitest";
import { TempWorkspace } from "../../test/support/tempWorkspace.ts";
import { LiveIndex } from "./buildIndex.ts";
import { retrieveLive } from "./liveRetrieval.ts";
import type { RecentPlace } from "./recentPlaces.ts";

let workspace: TempWorkspace;

afterEach(() => workspace.clean());

const files: Readonly<Record<string, string>> = {
  "src/price.ts": `export function priceOf(item: Item, count: number): number {
  const each = item.cents;
  if (count > 10) {
    return <|>
  }
  return each * count;
}
`,
  "src/cart.ts": `import { priceOf } from "./price";

export function total(items: Item[]): number {
  let sum = 0;
  for (const item of items) sum += priceOf(item, 1);
  return sum;
}
`,
  "src/notes.ts": `// what is sold

const unrelated = 1;

// pears are sold by weight
const pears = "by weight";

const more = 2;
`,
  "src/.env": "pears=1\n",
};

/** Reason and text of every snippet behind a cursor at `<|>` of src/price.ts. */
async function passagesWith(recent: readonly RecentPlace[], budget = 800) {
  const marked = files["src/price.ts"] ?? "";
  const cursor = {
    path: "src/price.ts",
    text: marked.replace("<|>", ""),
    offset: marked.indexOf("<|>"),
  };
  workspace = new TempWorkspace({ ...files, "src/price.ts": cursor.text });
  const live = new LiveIndex({ root: workspace.root });
  await live.refresh();
  const { snippets, tokens } = await retrieveLive(live, cursor, budget, recent);
  expect(tokens).toBeLessThanOrEqual(budget);
  return { live, cursor, snippets };
}

test("shows who calls the function around the cursor", async () => {
  const { snippets } = await passagesWith([]);
  const call = snippets.find(({ reason }) => reason === "callsThisFunction");
  expect(call).toMatchObject({ path: "src/cart.ts", startLine: 4, endLine: 6 });
  expect(call?.text).toContain("sum += priceOf(item, 1)");
});

test("shows where the user just was, behind what steadier reasons brought", async () => {
  const { snippets } = await passagesWith([
    { path: "src/notes.ts", line: 5, isEdited: true },
    { path: "src/price.ts", line: 0, isEdited: false },
  ]);
  const edited = snippets.at(-1);
  expect(edited).toMatchObject({ path: "src/notes.ts", reason: "recentlyEdited" });
  expect(edited?.text).toContain("// pears are sold by weight");
  expect(snippets.every(({ path }) => path !== "src/price.ts")).toBe(true);
});

test("says no line twice", async () => {
  const { snippets } = await passagesWith([{ path: "src/cart.ts", line: 3, isEdited: false }]);
  const lines = snippets.flatMap(({ path, startLine, text }) =>
    text.split("\n").map((_, i) => `${path}:${startLine + i}`),
  );
  expect(new Set(lines).size).toBe(lines.length);
  expect(lines).toContain("src/cart.ts:5");
});

test("reads no place that must not be read", async () => {
  const { snippets } = await passagesWith([
    { path: "src/.env", line: 0, isEdited: true },
    { path: "../outside.ts", line: 0, isEdited: true },
    { path: "src/gone.ts", line: 0, isEdited: true },
  ]);
  expect(snippets.map(({ path }) => path)).not.toContain("src/.env");
  expect(snippets.every(({ reason }) => reason !== "recentlyEdited")).toBe(true);
});

test("takes the text of the editor where it is not saved", async () => {
  const { live, cursor } = await passagesWith([]);
  await live.edit("src/notes.ts", "const apples = 1;\n");
  const recent = [{ path: "src/notes.ts", line: 0, isEdited: true }];
  const { context } = await retrieveLive(live, cursor, 800, recent);
  expect(context).toContain("#src/notes.ts\nconst apples = 1;");
  expect(context).not.toContain("pears");
});
