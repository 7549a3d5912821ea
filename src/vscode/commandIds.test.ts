import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { commandIds } from "./commandIds.ts";

test("the manifest declares exactly the commands that are registered", () => {
  const manifest = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  ) as {
    contributes: { commands: { command: string }[] };
  };
  const declared = manifest.contributes.commands.map(({ command }) => command);
  expect(declared.sort()).toEqual(Object.values(commandIds).sort());
});
