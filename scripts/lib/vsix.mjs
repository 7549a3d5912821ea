// Makes the package that users install, and finds out whether the last one is still good.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { buildProduct, products } from "./build.mjs";
import { languageFileNames } from "./languages.mjs";
import { cacheDir, inRoot } from "./paths.mjs";
import { localBin, mustRun } from "./runCommand.mjs";
import { writeThirdPartyLicenses } from "./thirdPartyLicenses.mjs";

const TARGET = "linux-x64";
const stampFile = path.join(cacheDir, "vsix.stamp");

/** Absolute path of the package of this version. */
export function vsixPath() {
  const { name, version } = JSON.parse(readFileSync(inRoot("package.json"), "utf8"));
  return inRoot(`${name}-${TARGET}-${version}.vsix`);
}

/** Builds minified bundles and packs them unless the last package holds exactly the same files. */
export async function ensureVsix(report = () => undefined) {
  await buildProduct(report, { minify: true });
  await writeThirdPartyLicenses(inRoot("dist", "third-party-licenses.txt"));
  const target = vsixPath();
  const wanted = contentHash();
  const stamp = existsSync(stampFile) ? readFileSync(stampFile, "utf8") : "";
  if (existsSync(target) && stamp === wanted) return { path: target, fresh: false };
  report("package");
  const flags = ["--target", TARGET, "--no-dependencies", "--out", target];
  await mustRun("vsce", localBin("vsce"), ["package", ...flags]);
  writeFileSync(stampFile, wanted);
  return { path: target, fresh: true };
}

function contentHash() {
  const models = readdirSync(inRoot("engine", "models")).filter((file) => file.endsWith(".gguf"));
  const texts = [".vscodeignore", "package.json", "README.md", "LICENSE", "CHANGELOG.md"];
  const files = [
    ...products,
    ...languageFileNames().map((file) => inRoot("dist", "languages", file)),
    ...models.map((file) => inRoot("engine", "models", file)),
    ...texts.map((file) => inRoot(file)),
  ];
  const hash = createHash("sha256");
  for (const file of files) {
    hash.update(`${path.basename(file)}\0`);
    if (existsSync(file)) hash.update(readFileSync(file));
  }
  return hash.digest("hex");
}
