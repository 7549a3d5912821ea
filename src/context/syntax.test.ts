import { expect, test } from "vitest";
import { Syntax } from "./syntax.ts";

/** `kind container.name` of every definition. */
async function definitionsIn(path: string, text: string): Promise<string[]> {
  const syntax = new Syntax();
  await syntax.load([path]);
  return syntax
    .definitions(path, text)
    .map(
      ({ kind, name, container }) => `${kind} ${container === "" ? "" : `${container}.`}${name}`,
    );
}

interface Case {
  path: string;
  text: string;
  /** In the order of the text. */
  found: readonly string[];
}

const cases: readonly Case[] = [
  {
    path: "a.ts",
    text: `
export class Cart {
  total = 0;
  add(item: Item): void {}
}
interface Item {
  price: number;
}
type Id = string;
enum Kind {
  Big,
}
export const limit = 3;
function run() {}
`,
    found: [
      "class Cart",
      "field Cart.total",
      "method Cart.add",
      "interface Item",
      "field Item.price",
      "type Id",
      "enum Kind",
      "member Kind.Big",
      "variable limit",
      "function run",
    ],
  },
  {
    path: "a.tsx",
    text: `
export function Button(props: Props) {
  return <b>{props.text}</b>;
}
interface Props {
  text: string;
}
`,
    found: ["function Button", "interface Props", "field Props.text"],
  },
  {
    path: "a.js",
    text: `
class Cart {
  add(item) {}
}
function run() {}
const limit = 3;
`,
    found: ["class Cart", "method Cart.add", "function run", "variable limit"],
  },
  {
    path: "a.py",
    text: `
LIMIT = 3

class Cart:
    def add(self, item):
        self.total = item

def run():
    pass
`,
    found: [
      "variable LIMIT",
      "class Cart",
      "function Cart.add",
      "field Cart.total",
      "function run",
    ],
  },
  {
    path: "a.go",
    text: `
package a

type Cart struct {
	Total int
}

func (c *Cart) Add(item int) {}

func Run() {}

const Limit = 3
`,
    found: ["class Cart", "field Cart.Total", "method Cart.Add", "function Run", "constant Limit"],
  },
  {
    path: "a.rs",
    text: `
pub struct Cart {
    total: u32,
}
impl Cart {
    pub fn add(&mut self) {}
}
enum Kind {
    Big,
}
trait Shape {
    fn area(&self);
}
fn run() {}
const LIMIT: u32 = 3;
`,
    found: [
      "class Cart",
      "field Cart.total",
      "function Cart.add",
      "enum Kind",
      "member Kind.Big",
      "interface Shape",
      "method Shape.area",
      "function run",
      "constant LIMIT",
    ],
  },
  {
    path: "A.java",
    text: `
class Cart {
  int total;
  void add(Item item) {}
  enum Kind { BIG }
}
interface Item {
  int price();
}
`,
    found: [
      "class Cart",
      "field Cart.total",
      "method Cart.add",
      "enum Cart.Kind",
      "member Kind.BIG",
      "interface Item",
      "method Item.price",
    ],
  },
  {
    path: "a.c",
    text: `
#define LIMIT 3
struct cart {
  int total;
};
void cart_add(struct cart *cart) {}
`,
    found: ["macro LIMIT", "class cart", "field cart.total", "function cart_add"],
  },
  {
    path: "a.cpp",
    text: `
namespace shop {
class Cart {
 public:
  void add(int item);
  int total;
};
void Cart::add(int item) {}
}
`,
    found: [
      "module shop",
      "class shop.Cart",
      "method Cart.add",
      "field Cart.total",
      "method Cart.add",
    ],
  },
  {
    path: "a.cs",
    text: `
namespace Shop {
  class Cart {
    int total;
    public int Price { get; set; }
    void Add(int item) {}
  }
}
`,
    found: ["class Cart", "field Cart.total", "field Cart.Price", "method Cart.Add"],
  },
  {
    path: "a.php",
    text: `
<?php
class Cart {
  public $total;
  function add($item) {}
}
function run() {}
`,
    found: ["class Cart", "field Cart.total", "method Cart.add", "function run"],
  },
  {
    path: "a.rb",
    text: `
class Cart
  LIMIT = 3
  def add(item)
  end
end
`,
    found: ["class Cart", "constant Cart.LIMIT", "method Cart.add"],
  },
  {
    path: "a.sh",
    text: `
run() {
  echo 1
}
LIMIT=3
`,
    found: ["function run", "variable LIMIT"],
  },
];

test.each(cases)("finds the definitions in $path", async ({ path, text, found }) => {
  expect(await definitionsIn(path, text)).toEqual(found);
});

test.each(["a.ts", "a.tsx", "a.js"])(
  "takes a function in %s for a function wherever it is kept",
  async (path) => {
    const text = `
export const total = (
  cart,
  rate,
) => {
  const inner = (item) => item.price;
  return cart.items.map(inner) * rate;
};
const half = function (value) {
  return value / 2;
};
class Cart {
  add = async (
    item,
  ) => {
    this.items.push(item);
  };
}
`;
    const syntax = new Syntax();
    await syntax.load([path]);
    const found = syntax.definitions(path, text);
    expect(
      found.map(({ kind, name, line, signatureEnd }) => [kind, name, line, signatureEnd]),
    ).toEqual([
      ["function", "total", 1, 4],
      ["function", "half", 8, 8],
      ["class", "Cart", 11, 11],
      ["method", "add", 12, 14],
    ]);
  },
);

test("knows nothing of a language without a grammar", async () => {
  expect(await definitionsIn("a.txt", "class Cart {}")).toEqual([]);
});
