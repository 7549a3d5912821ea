// The sample workspace and the place in it that `npm start` completes first.
import { cpSync, readFileSync } from "node:fs";
import path from "node:path";
import { inRoot } from "./paths.mjs";

const source = inRoot("test", "fixtures", "workspaces", "sample");

/** Copies the sample workspace to `folder`, so that nothing typed into it changes the checkout. */
export function copySample(folder) {
  cpSync(source, folder, { recursive: true });
}

/** The cursor of the first completion, 1-based as the CLI takes it, with the lines around it. */
export function samplePlace(workspace) {
  const file = "inventory.py";
  const lines = readFileSync(path.join(workspace, file), "utf8").split("\n");
  const index = lines.findIndex((line) => line.endsWith("total += "));
  if (index < 0)
    throw new Error(`${file} of the sample workspace has no line that ends in "total += "`);
  const column = lines[index].length + 1;
  return {
    spec: `${path.join(workspace, file)}:${index + 1}:${column}`,
    file,
    before: lines.slice(Math.max(0, index - 3), index + 1),
    after: lines.slice(index + 1, index + 3),
  };
}
