// `npm run package`: the .vsix for linux-x64 with addon, engine and model.
import { statSync } from "node:fs";
import path from "node:path";
import { installForBuild } from "./lib/build.mjs";
import { root } from "./lib/paths.mjs";
import { ensureVsix } from "./lib/vsix.mjs";

const say = (line) => process.stdout.write(`${line}\n`);

try {
  await installForBuild();
  const vsix = await ensureVsix((step) => say(`building: ${step}`));
  const megabytes = (statSync(vsix.path).size / 1e6).toFixed(1);
  say(`${path.relative(root, vsix.path)}: ${megabytes} MB${vsix.fresh ? "" : ", unchanged"}`);
} catch (error) {
  process.stderr.write(`package: ${error.message}\n`);
  process.exitCode = 1;
}
