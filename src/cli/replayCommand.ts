import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { replay } from "../replay/replay.ts";
import { formatReplay, type ReplayReport } from "../replay/replayReport.ts";
import { collectSessions } from "../replay/sessions.ts";
import { withPrivateEngine } from "./engineSession.ts";
import { parseCount } from "./location.ts";
import { productRoot, productVersion } from "./productFiles.ts";

export interface ReplayOptions {
  files: string[];
  model?: string;
  sessions: string;
  length: string;
  seed: string;
  debounce: string;
  json?: boolean;
}

const MAX_TOKENS = 64;
/** Typing at five keys a second. */
const KEY_MS = 200;
/** What a checkout brings: its own sources, and the sources that its tests complete in. */
const OWN_FOLDERS = ["src", "engine", "scripts", "test"];

/** `bench fim --replay`: types real source files key by key and prints what an ideal user saves. */
export async function replayCommand(options: ReplayOptions): Promise<void> {
  const folders = options.files.length > 0 ? options.files.map((f) => resolve(f)) : ownFolders();
  const missing = folders.find((folder) => !existsSync(folder));
  if (missing !== undefined) throw new Error(`expected a folder at ${missing}, found none`);
  const sessions = collectSessions({
    folders,
    count: parseCount(options.sessions, "--sessions", 1),
    length: parseCount(options.length, "--length", 1),
    seed: parseCount(options.seed, "--seed", 0),
  });
  const settings = {
    debounceMs: parseCount(options.debounce, "--debounce", 0),
    maxTokens: MAX_TOKENS,
    keyMs: KEY_MS,
  };
  const report = await withPrivateEngine(
    options.model === undefined ? undefined : resolve(options.model),
    async ({ connection, health }): Promise<ReplayReport> => ({
      bench: "fim --replay",
      version: productVersion(),
      model: health.model.id,
      device: health.model.device,
      sessions: sessions.length,
      folders,
      settings: { ...settings, seed: Number(options.seed) },
      ...(await replay(sessions, connection, settings, progress)),
    }),
  );
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : formatReplay(report));
}

function ownFolders(): string[] {
  const found = OWN_FOLDERS.map((name) => join(productRoot, name)).filter((f) => existsSync(f));
  if (found.length > 0) return found;
  throw new Error("expected --files with folders of source files, found none");
}

/** On a terminal only, so that the output of a script stays clean. */
function progress(done: number, total: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\rsession ${done + 1} of ${total} `);
}
