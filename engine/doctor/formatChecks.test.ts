import { expect, it } from "vitest";
import { fail, ok, warn } from "./check.ts";
import { formatChecks } from "./formatChecks.ts";

it("aligns the columns, puts advice behind what was found, and keeps each check on one line", () => {
  const checks = [
    ok("Node", "v20"),
    warn("memory", "1 GiB free", "close something"),
    fail("model file", "it is\n damaged", "install it again"),
  ];
  expect(formatChecks(checks)).toBe(`ok    Node        v20
warn  memory      1 GiB free; to do: close something
fail  model file  it is damaged; to do: install it again
1 of 3 checks failed, 1 with a warning
`);
});

it("says in the last line that nothing is wrong, or that there were only warnings", () => {
  expect(formatChecks([ok("Node", "v20")])).toMatch(/\nnothing is wrong\n$/);
  expect(formatChecks([warn("a", "b", "c")])).toMatch(/\nnothing failed, 1 with a warning\n$/);
});
