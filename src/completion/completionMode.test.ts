import { describe, expect, test } from "vitest";
import { acceptsCompletion, modeOf } from "./completionMode.ts";
import { siteOf } from "./documentSnapshot.ts";

function at(marked: string) {
  const offset = marked.indexOf("<|>");
  return siteOf({ filename: "a", text: marked.replace("<|>", ""), offset });
}

describe("modeOf", () => {
  test.each([
    ["def f(x):<|>", "multi"],
    ["if (x) {<|>", "multi"],
    ["const f = () =><|>", "multi"],
    ["while true do<|>", "multi"],
    ["call(<|>", "multi"],
    ["x = 1\n    <|>\ny = 2", "multi"],
    ["<|>", "multi"],
    ["x = <|>", "single"],
    ["const count:<|>", "single"],
    ["else:<|>", "multi"],
    ["# the result:<|>", "single"],
    ["// note:<|>", "single"],
    ["print(<|>)", "single"],
    ["if (x) {<|>}", "single"],
  ])("%j is completed with %s lines", (marked, mode) => {
    expect(modeOf(at(marked), "auto")).toBe(mode);
  });

  test("the setting overrides the decision, but never where text follows on the line", () => {
    expect(modeOf(at("x = <|>"), "always")).toBe("multi");
    expect(modeOf(at("def f():<|>"), "never")).toBe("single");
    expect(modeOf(at("f(<|>)"), "always")).toBe("single");
  });
});

describe("acceptsCompletion", () => {
  test.each([
    ["foo(<|>)", true],
    ["foo(<|>);", true],
    ['x = "<|>"', true],
    ["x = <|>  ", true],
    ["x = <|>y", false],
    ["fo<|>o()", false],
  ])("%j while typing: %s", (marked, accepted) => {
    expect(acceptsCompletion(at(marked), "typing")).toBe(accepted);
  });

  test("a command is answered anywhere", () => {
    expect(acceptsCompletion(at("fo<|>o()"), "command")).toBe(true);
  });
});
