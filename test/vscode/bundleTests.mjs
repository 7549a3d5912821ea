// Bundles the suites that run inside the extension host; mocha and vscode stay outside.
import { readdirSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { inRoot } from "../../scripts/lib/paths.mjs";

/** Path of the bundled entry, for VS Code's `extensionTestsPath`. */
export async function bundleTests() {
  const source = inRoot("test", "vscode");
  const suites = readdirSync(source).filter((file) => file.endsWith(".vscode.test.ts"));
  if (suites.length === 0) throw new Error(`${source} holds no *.vscode.test.ts`);
  const outdir = inRoot("build", "vscode-tests");
  await build({
    entryPoints: ["mochaEntry.ts", ...suites].map((file) => path.join(source, file)),
    outdir,
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    external: ["vscode", "mocha"],
    logLevel: "warning",
  });
  return path.join(outdir, "mochaEntry.js");
}
