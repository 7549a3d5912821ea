import { symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { TempWorkspace } from "../../test/support/tempWorkspace.ts";
import { LiveIndex } from "./buildIndex.ts";
import { retrieve } from "./retrieve.ts";
import { chunksOf, type Retrieval } from "./snippet.ts";

let workspace: TempWorkspace;

afterEach(() => workspace.clean());

type Files = Readonly<Record<string, string>>;

/** What a cursor at `<|>` of `path` sees of the other files. */
async function contextAt(path: string, files: Files, budget = 400): Promise<Retrieval> {
  const marked = files[path] ?? "";
  const offset = marked.indexOf("<|>");
  const text = marked.replace("<|>", "");
  workspace = new TempWorkspace({ ...files, [path]: text });
  const live = new LiveIndex({ root: workspace.root });
  await live.refresh();
  return retrieve(live.index, { path, text, offset }, budget);
}

const typescript: Files = {
  "src/shop/money.ts": `export interface Money {
  cents: number;
  currency: string;
}

export function addMoney(left: Money, right: Money): Money {
  return { cents: left.cents + right.cents, currency: left.currency };
}
`,
  "src/shop/index.ts": `export * from "./money";
export function formatPrice(price: number): string {
  return String(price);
}
`,
  "src/other/weather.ts": `export function forecast(day: number): string {
  return String(day);
}
`,
  "src/cart.ts": `import { addMoney, type Money } from "./shop";
import { formatPrice } from "./shop/index";

export function total(prices: Money[]): Money {
  let sum = prices[0];
  for (const price of prices.slice(1)) sum = <|>
}
`,
};

const python: Files = {
  "store/stock.py": `class Item:
    """One thing."""

    def __init__(self, name, price):
        self.name = name
        self.price = price

    def total_price(self, count):
        return self.price * count
`,
  "store/__init__.py": "",
  "store/clock.py": `def midnight():
    return 0
`,
  "report.py": `from store.stock import Item


def report(item: Item, count):
    return item.<|>
`,
};

const go: Files = {
  "go.mod": `module example.com/app
`,
  "queue/queue.go": `package queue

type Queue struct {
	jobs []string
}

func NewQueue(size int) *Queue {
	return &Queue{jobs: make([]string, 0, size)}
}

func (q *Queue) PushJob(job string) error {
	q.jobs = append(q.jobs, job)
	return nil
}
`,
  "main.go": `package main

import "example.com/app/queue"

func main() {
	q := queue.<|>
}
`,
  "helper.go": `package main

func loadJobs(path string) []string {
	return nil
}
`,
};

describe("the definition that the cursor needs", () => {
  test.each([
    ["TypeScript", typescript, "src/cart.ts", "src/shop/money.ts", "function addMoney(left: Money"],
    ["Python", python, "report.py", "store/stock.py", "def total_price(self, count):"],
    ["Go", go, "main.go", "queue/queue.go", "func NewQueue(size int) *Queue {"],
    ["Go, same package", go, "main.go", "helper.go", "func loadJobs(path string) []string {"],
  ])("is in the context of %s, with its place and a reason", async (_, files, path, from, line) => {
    const { snippets, context } = await contextAt(path, files);
    const found = snippets.find(({ text }) => text.includes(line));
    expect(found?.path).toBe(from);
    expect(found?.reason).toMatch(/^\w{4,}$/);
    expect(context).toContain(line);
    const text = files[from]?.split("\n").slice((found?.startLine ?? 1) - 1, found?.endLine);
    expect(found?.text).toBe(text?.join("\n"));
  });
});

test("prefers what begins as the name that is being typed", async () => {
  const marked = typescript["src/cart.ts"] ?? "";
  for (const [typed, wanted, other] of [
    ["add", "addMoney", "formatPrice"],
    ["form", "formatPrice", "addMoney"],
  ] as const) {
    const files = { ...typescript, "src/cart.ts": marked.replace("<|>", `${typed}<|>`) };
    const { context } = await contextAt("src/cart.ts", files, 26);
    expect(context).toContain(wanted);
    expect(context).not.toContain(other);
    workspace.clean();
  }
});

test("gives a signature of several lines whole, and no more than the signature", async () => {
  const { context } = await contextAt("main.py", {
    "store.py": `class Store(
    Base,
):
    limit = {
        "low": 1,
    }

    def put_item(
        self,
        item: Item,
    ) -> Receipt:
        return self.save(item)
`,
    "main.py": "from store import Store\n\nstore = Store()\nreceipt = store.<|>\n",
  });
  expect(context).toContain(
    "    def put_item(\n        self,\n        item: Item,\n    ) -> Receipt:\n",
  );
  expect(context).not.toContain("self.save");
  expect(context).not.toContain('"low"');
});

test("gives several definitions of a name where it may mean either", async () => {
  const { snippets } = await contextAt(
    "src/main.ts",
    {
      "src/a.ts": "export class A {\n  deliver(to: Address): void {}\n}\n",
      "src/b.ts": "export class B {\n  deliver(): Promise<Parcel> {}\n}\n",
      "src/dist/b.min.ts": "export class B { deliver() {} }\n",
      "src/main.ts": 'import { A } from "./a";\nimport { B } from "./b";\n\nthing.<|>\n',
    },
    800,
  );
  const lines = snippets.map(({ text }) => text).join("\n");
  expect(lines).toContain("deliver(to: Address)");
  expect(lines).toContain("deliver(): Promise<Parcel>");
});

test("stays within the budget, and nothing costs nothing", async () => {
  for (const budget of [0, 20, 40, 80]) {
    const { tokens, snippets } = await contextAt("src/cart.ts", typescript, budget);
    expect(tokens).toBeLessThanOrEqual(budget);
    expect(snippets.length > 0).toBe(budget >= 20);
    workspace.clean();
  }
  expect((await contextAt("a.ts", { "a.ts": "<|>" })).context).toBe("");
});

test("puts files in the order of their paths, and a file's lines into one chunk", async () => {
  const { snippets } = await contextAt("src/cart.ts", typescript);
  const chunks = chunksOf(snippets);
  const names = chunks.map(({ filename }) => filename);
  expect(names).toEqual([...new Set(names)].sort());
  expect(names).toContain("src/shop/money.ts");
});

test("does not depend on what was saved of the file that is edited", async () => {
  const marked = typescript["src/cart.ts"] ?? "";
  const offset = marked.indexOf("<|>");
  const cursor = { path: "src/cart.ts", text: marked.replace("<|>", ""), offset };
  workspace = new TempWorkspace({ ...typescript, "src/cart.ts": "" });
  const live = new LiveIndex({ root: workspace.root });
  const answer = () => retrieve(live.index, cursor, 100).snippets;
  await live.refresh();
  const empty = answer();
  workspace.write("src/cart.ts", `${cursor.text}\nlet more = formatPrice;\n`);
  await live.refresh();
  expect(answer()).toEqual(empty);
  workspace.remove("src/cart.ts");
  await live.refresh();
  expect(answer()).toEqual(empty);
  expect(empty.length).toBeGreaterThan(0);
});

/** Every name that was ever read. */
function namesIn({ index: { names } }: LiveIndex): string[] {
  return Array.from({ length: names.size }, (_, id) => names.textOf(id));
}

test("nothing that is ignored, secret, foreign or hidden comes into a context", async () => {
  const hidden = (name: string) => `export function hidden${name}(item: Item): Item;\n`;
  const key = `const apiKey = "${"Zk3J9qLw"}x8Vn2Rt7Yb4Mc6Pd";\n`;
  workspace = new TempWorkspace({
    ".gitignore": "ignored.ts\nbuild/\n",
    ".tidepoolignore": "private/\n",
    "item.ts": "export class Item {}\nexport function shown(item: Item): Item;\n",
    "ignored.ts": hidden("Ignored"),
    "build/out.ts": hidden("Built"),
    "private/notes.ts": hidden("Private"),
    ".env.ts": hidden("Env"),
    "secrets/.ssh/id.ts": hidden("Ssh"),
    "key.ts": hidden("Key") + key,
    "deep/node_modules/x/index.ts": hidden("Package"),
    ".git/hooks.ts": hidden("Git"),
    "large.ts": hidden("Large") + " ".repeat(1024 * 1024),
    "binary.ts": `${hidden("Binary")}\0`,
    "inner/root/file.ts": hidden("OtherRoot"),
  });
  const outside = join(dirname(workspace.root), "outside.ts");
  writeFileSync(outside, hidden("Outside"));
  symlinkSync(outside, join(workspace.root, "link.ts"));
  symlinkSync(join(workspace.root, "ignored.ts"), join(workspace.root, "alias.ts"));
  const live = new LiveIndex({
    root: workspace.root,
    otherRoots: [join(workspace.root, "inner/root")],
    storeFolder: workspace.storeFolder,
  });
  const text = "import { Item } from './item';\nconst item: Item = ";
  const seen = () => {
    const found = retrieve(live.index, { path: "a.ts", text, offset: text.length }, 10_000);
    return JSON.stringify([found, namesIn(live)]);
  };
  const expectClean = () => {
    expect(seen()).toContain("shown(item: Item)");
    expect(seen()).not.toMatch(/hidden/);
  };
  await live.refresh();
  expectClean();
  const paths = ["ignored.ts", "build/out.ts", "private/notes.ts", ".env.ts", "link.ts", "key.ts"];
  await live.follow([...paths, ".git/hooks.ts", "alias.ts", "inner/root/file.ts", "private"]);
  expectClean();
  // The text of key.ts is what makes it secret; all others are refused by where they are.
  for (const path of [...paths, "alias.ts", "inner/root/file.ts"])
    await live.edit(path, hidden("Edited") + (path === "key.ts" ? key : ""));
  await live.edit("large.ts", hidden("Large") + " ".repeat(1024 * 1024));
  // Far behind the part that is searched before a completion.
  await live.edit("far.ts", hidden("Far") + "\n".repeat(300_000) + key);
  expectClean();
  // What became ignored since the last start is not taken from the disk either.
  workspace.write(".tidepoolignore", "private/\nitem.ts\n");
  const later = new LiveIndex({ root: workspace.root, storeFolder: workspace.storeFolder });
  await later.refresh();
  expect(later.index.files.has("item.ts")).toBe(false);
});

test("right behind the name of an imported module, what stands behind its dot is looked for", async () => {
  const filler = (name: string) =>
    Array.from({ length: 30 }, (_, i) => `class ${name}${i}(Base):\n    pass\n\n\n`).join("");
  const files = {
    "transforms/universal.py": "class SmartQuotes(Base):\n    pass\n",
    "transforms/other.py": filler("Rule"),
    "main.py":
      "from transforms import universal\nfrom transforms.other import *\n\n\ndef chosen():\n    return [universal<|>]\n",
  };
  const { context } = await contextAt("main.py", files, 60);
  expect(context).toContain("class SmartQuotes");
});
