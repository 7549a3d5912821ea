/** Finds and loads the native addon. Nothing else in the engine knows where it lies. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { EngineError, messageOf } from "../base/errors.ts";
import type { NativeAddon } from "./addon.ts";

/** EK_ABI_VERSION of the engine_kernels.h that this code was written against. */
export const ABI_VERSION = 6;

/** Folder of this file, or of the bundle that holds it (CommonJS or ES module). */
const ownFolder = typeof __dirname === "string" ? __dirname : import.meta.dirname;

/**
 * Loads the addon and checks its ABI version. Each worker thread may load it.
 * The file is `TIDEPOOL_ADDON` when that is set, else `native/tidepool.node` beside the bundle, else the checkout's build.
 * @throws EngineError `device` when there is no addon, it cannot be loaded, or it has another ABI.
 */
export function loadAddon(env: NodeJS.ProcessEnv = process.env): NativeAddon {
  const path = findAddon(env["TIDEPOOL_ADDON"]);
  const addon = requireAddon(path);
  const version = addon.abiVersion();
  if (version !== ABI_VERSION) {
    throw new EngineError(
      "device",
      `${path} has kernel ABI ${version}, expected ${ABI_VERSION}: rebuild it with "npm run native"`,
    );
  }
  return addon;
}

function findAddon(override: string | undefined): string {
  if (override !== undefined && override !== "") {
    if (existsSync(override)) return override;
    throw new EngineError("device", `TIDEPOOL_ADDON names ${override}, which does not exist`);
  }
  const candidates = [
    join(ownFolder, "native", "tidepool.node"),
    join(ownFolder, "..", "build", "native", "tidepool.node"),
    join(ownFolder, "..", "..", "build", "native", "tidepool.node"),
  ];
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new EngineError(
    "device",
    `native addon not found, expected it at ${candidates.join(" or ")}: build it with "npm run native"`,
  );
}

function requireAddon(path: string): NativeAddon {
  try {
    const loaded: unknown = createRequire(path)(path);
    if (isAddon(loaded)) return loaded;
  } catch (error) {
    throw new EngineError("device", `cannot load the native addon ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  throw new EngineError("device", `${path} is not Tidepool's native addon: no abiVersion function`);
}

function isAddon(loaded: unknown): loaded is NativeAddon {
  return (
    typeof loaded === "object" &&
    loaded !== null &&
    "abiVersion" in loaded &&
    typeof loaded.abiVersion === "function"
  );
}
