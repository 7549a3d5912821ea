import { describe, expect, it } from "vitest";
import { checkNodeVersion, isInstalled } from "./nodeModules.mjs";

const lock = (packages) => ({ packages: { "": {}, ...packages } });
const wanted = lock({
  "node_modules/a": { version: "1.0.0" },
  "node_modules/a-win32": { version: "1.0.0", optional: true },
});

describe("the record of node_modules", () => {
  it("agrees when only other platforms' binaries are missing", () => {
    expect(isInstalled(wanted, lock({ "node_modules/a": { version: "1.0.0" } }))).toBe(true);
  });
  it("does not agree after a version changed, a package was added, or when there is none", () => {
    expect(isInstalled(wanted, lock({ "node_modules/a": { version: "1.0.1" } }))).toBe(false);
    expect(isInstalled(wanted, lock({}))).toBe(false);
    expect(isInstalled(wanted, {})).toBe(false);
  });
});

it("refuses a Node that is too old and names both versions", () => {
  expect(() => checkNodeVersion("20.18.9")).toThrow(
    "Node 20.19 or newer is needed, this is 20.18.9",
  );
  expect(() => checkNodeVersion("20.19.0")).not.toThrow();
  expect(() => checkNodeVersion("22.1.0")).not.toThrow();
});
