import { expect, test } from "vitest";
import { EngineError, messageOf } from "./errors.ts";

test("an EngineError is recognised by its code", () => {
  const cause = new RangeError("inner");
  const error = new EngineError("bad_model", "a.gguf: expected magic GGUF, found ABCD", { cause });
  expect(EngineError.is(error)).toBe(true);
  expect(EngineError.is(error, "bad_model")).toBe(true);
  expect(EngineError.is(error, "internal")).toBe(false);
  expect(EngineError.is(cause)).toBe(false);
  expect(error.cause).toBe(cause);
});

test("anything thrown has a message", () => {
  expect(messageOf(new Error("x"))).toBe("x");
  expect(messageOf("y")).toBe("y");
});
