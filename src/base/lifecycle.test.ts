import { expect, test } from "vitest";
import { DisposableStore } from "./lifecycle.ts";

test("releases in reverse order, once", () => {
  const released: string[] = [];
  const store = new DisposableStore();
  store.add({ dispose: () => released.push("first") });
  store.add({ dispose: () => released.push("second") });
  store.dispose();
  store.dispose();
  expect(released).toEqual(["second", "first"]);
});

test("releases an item at once that comes after disposal", () => {
  const store = new DisposableStore();
  store.dispose();
  let released = 0;
  store.add({ dispose: () => released++ });
  expect(released).toBe(1);
});
