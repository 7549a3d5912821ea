import { afterEach, expect, test } from "vitest";
import { TempWorkspace } from "../../test/support/tempWorkspace.ts";
import { maskedPositions } from "./positions.ts";
import { recallOf } from "./recall.ts";
import { type BenchRepository, readBenchRepository } from "./repository.ts";

const files = {
  "shop.py": `class Cart:
    def total_price(self):
        return 0

    def known(self):
        return 1

    def discount(self):
        """Of everything.

        class Word of prose, none of code.
        """
`,
  "main.py": `from shop import Cart

def report(shop):
    """Says what there is,

    every discount and Word of it left out.
    """
    shop.known()
    print(shop.known())
    print("total_price")
    cart = Cart()
`,
  "vendor/copy.py": "def copied():\n    return copied_too\n",
};

let workspace: TempWorkspace;
afterEach(() => workspace.clean());

function repository(): BenchRepository {
  workspace = new TempWorkspace(files);
  return readBenchRepository(workspace.root, Object.keys(files));
}

const options = { count: 50, mostOfFile: 10, seed: 1 };

test("masks lines whose names other files define and no other line has, import lines excepted", () => {
  const positions = maskedPositions(repository(), options);
  expect(positions.map(({ path, names, imported }) => ({ path, names, imported }))).toEqual([
    { path: "main.py", names: ["Cart"], imported: ["Cart"] },
  ]);
  const [position] = positions;
  expect(position?.text.slice(0, position.offset)).toMatch(/\n {4}(?:cart )?(?:= )?$/);
  expect(position?.text.endsWith("\n")).toBe(true);
  expect(position?.rest).toMatch(/Cart\(\)$/);
});

test("chooses the same positions for the same seed", () => {
  const read = repository();
  expect(maskedPositions(read, options)).toEqual(maskedPositions(read, options));
});

test("counts names that stand in the context, and those whose defining line does", () => {
  const read = repository();
  const asked = { path: "main.py", names: ["Cart", "known"] };
  const recall = (context: string) => recallOf(read, asked, context);
  expect(recall("")).toEqual({ identifiers: 0, definitions: 0 });
  expect(recall("use(Cart)")).toEqual({ identifiers: 0.5, definitions: 0 });
  expect(recall("#shop.py\n  class Cart:\n")).toEqual({ identifiers: 0.5, definitions: 0.5 });
  expect(recall("class Cart:\n    def known(self):\n")).toEqual({
    identifiers: 1,
    definitions: 1,
  });
  expect(recall("class Carts:\n")).toEqual({ identifiers: 0, definitions: 0 });
});
