import { resolve } from "node:path";
import { replay } from "../replay/replay.ts";
import { formatReplay, type ReplayReport } from "../replay/replayReport.ts";
import { collectSessions } from "../replay/sessions.ts";
import { withPrivateEngine } from "./engineSession.ts";
import { parseCount } from "./location.ts";
import { productVersion } from "./productFiles.ts";
import { progress, sourceFolders } from "./sourceFolders.ts";

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

/** `bench fim --replay`: types real source files key by key and prints what an ideal user saves. */
export async function replayCommand(options: ReplayOptions): Promise<void> {
  const folders = sourceFolders(options.files);
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
      ...(await replay(sessions, connection, settings, progress("session"))),
    }),
  );
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : formatReplay(report));
}
