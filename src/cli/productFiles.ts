// Where the product's files lie: all beside this bundle.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const dist = fileURLToPath(new URL(".", import.meta.url));

/** Folder that holds the whole product: the checkout, or the installed extension. */
export const productRoot = join(dist, "..");

export const modelsFolder = join(productRoot, "engine", "models");

/** The engine bundle. Throws when the product was not built. */
export function engineScript(): string {
  const script = join(dist, "engine.js");
  if (!existsSync(script))
    throw new Error(`expected the engine at ${script}, found nothing: run npm run build`);
  return script;
}

/** Version of the package that this bundle belongs to. */
export function productVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(dist, "..", "package.json"), "utf8"));
  if (typeof manifest === "object" && manifest !== null && "version" in manifest)
    return String(manifest.version);
  throw new Error("expected a version in package.json, found none");
}
