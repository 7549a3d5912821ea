/** The daemon's log: one file in the runtime folder, limited in size, with one older copy. A log that cannot be written stops nothing. */
import { appendFileSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Logger, pino } from "pino";

const MAX_BYTES = 2 * 1024 * 1024;

/** A logger that writes to `engine.log` in `dir`. */
export function openLog(dir: string): Logger {
  const path = join(dir, "engine.log");
  let nBytes = sizeOf(path);
  const write = (line: string) => {
    try {
      if (nBytes > MAX_BYTES) {
        renameSync(path, `${path}.1`);
        nBytes = 0;
      }
      appendFileSync(path, line, { mode: 0o600 });
      nBytes += Buffer.byteLength(line);
    } catch {
      // A full disk or a folder that was taken away: serving completions matters more than this line.
    }
  };
  return pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, { write });
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    // There is no log yet.
    return 0;
  }
}
