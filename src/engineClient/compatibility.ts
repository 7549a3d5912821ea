import { type Health, PROTOCOL_VERSION } from "../../engine/protocol/api.ts";

/** What a client needs of the daemon that it found. */
export interface Requirements {
  /** Version of this client's package, `major.minor.patch`. */
  version: string;
  /** Absolute path of the model file; without it any model will do. */
  model?: string;
}

export type Verdict =
  | { kind: "use" }
  | { kind: "replace"; why: string }
  | { kind: "refuse"; why: string };

/**
 * Decides whether a daemon that answers serves this client.
 * A newer daemon of the same protocol is used: were both windows of an update to insist on their own version, they would end each other's engine for ever.
 */
export function judge(found: Health, needed: Requirements): Verdict {
  const newer = compareVersions(found.version, needed.version) > 0;
  if (found.protocol !== PROTOCOL_VERSION) {
    const why = `expected protocol ${PROTOCOL_VERSION}, found ${found.protocol} (engine ${found.version})`;
    return newer
      ? { kind: "refuse", why: `${why}: reload the window to update Tidepool` }
      : { kind: "replace", why };
  }
  if (found.version !== needed.version && !newer) {
    return { kind: "replace", why: `expected engine ${needed.version}, found ${found.version}` };
  }
  const model = found.model?.path;
  if (needed.model !== undefined && model !== undefined && model !== needed.model) {
    return { kind: "replace", why: `expected model ${needed.model}, found ${model}` };
  }
  return { kind: "use" };
}

/** Negative, zero or positive like `a − b`, by major, minor and patch. */
function compareVersions(a: string, b: string): number {
  const left = numbersOf(a);
  const right = numbersOf(b);
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbersOf(version: string): number[] {
  return version.split(/[.+-]/, 3).map((part) => Number.parseInt(part, 10) || 0);
}
