// Lines of other files that are in a context for where they stand, not for what they define: calls of the function
// around the cursor, and where the user just was.
import { callSites } from "./callers.ts";
import type { RecentPlace } from "./recentPlaces.ts";
import type { RepositoryIndex } from "./repositoryIndex.ts";
import { type ContextCursor, headerOf, type Snippet } from "./snippet.ts";

const MOST_CALLS = 3;
const MOST_RECENT = 4;
/** Lines before and after. */
const AROUND_CALL = 1;
const AROUND_RECENT = 5;
const LONGEST_LINE = 240;
/** Of a budget, what all calls may take, and all passages. */
const CALLS_SHARE = 1 / 20;
const PASSAGES_SHARE = 1 / 5;

export interface PassageSources {
  index: RepositoryIndex;
  recent: readonly RecentPlace[];
  /** The text of a file; undefined when it must not be read. */
  read(path: string): Promise<string | undefined>;
}

/** Calls first, then the latest places, no line twice; together a fifth of `budget`, in bytes, at most. */
export async function passagesFor(
  { index, recent, read }: PassageSources,
  cursor: ContextCursor,
  budget: number,
): Promise<Snippet[]> {
  const calls = await snippetsAt(
    callSites(index, cursor, MOST_CALLS).map((site) => ({ ...site, reason: "callsThisFunction" })),
    { around: AROUND_CALL, budget: budget * CALLS_SHARE, read },
  );
  const places = recent.filter(({ path }) => path !== cursor.path).slice(0, MOST_RECENT);
  const visits = await snippetsAt(
    places.map(({ path, line, isEdited }) => ({
      path,
      line,
      reason: isEdited ? "recentlyEdited" : "recentlyVisited",
    })),
    { around: AROUND_RECENT, budget: budget * PASSAGES_SHARE - sizeOf(calls), read },
  );
  return [...calls.filter((call) => !visits.some((visit) => overlap(call, visit))), ...visits];
}

function overlap(a: Snippet, b: Snippet): boolean {
  return a.path === b.path && a.startLine <= b.endLine && b.startLine <= a.endLine;
}

/** UTF-8 bytes with all headers. */
export function sizeOf(snippets: readonly Snippet[]): number {
  let bytes = 0;
  for (const { path, text } of snippets) bytes += Buffer.byteLength(headerOf(path) + text) + 1;
  return bytes;
}

async function snippetsAt(
  places: readonly { path: string; line: number; reason: string }[],
  { around, budget, read }: { around: number; budget: number; read: PassageSources["read"] },
): Promise<Snippet[]> {
  const found: Snippet[] = [];
  let left = budget;
  for (const { path, line, reason } of places) {
    const text = await read(path);
    if (text === undefined) continue;
    for (let reach = around; reach >= 0; reach--) {
      const snippet = window(text, line, reach);
      if (!snippet) break;
      const whole = { path, reason, ...snippet };
      const bytes = sizeOf([whole]);
      if (bytes > left) continue;
      found.push(whole);
      left -= bytes;
      break;
    }
  }
  return found;
}

/** The lines around `line` without blank ones at their ends; undefined where the file has no such line. */
function window(text: string, line: number, reach: number) {
  const lines = text.split("\n");
  let from = Math.max(0, line - reach);
  let to = Math.min(lines.length - 1, line + reach);
  const isBlank = (at: number) => (lines[at] ?? "").trim() === "";
  while (from < to && isBlank(from)) from++;
  while (to > from && isBlank(to)) to--;
  if (from > to || isBlank(from)) return undefined;
  const kept = lines.slice(from, to + 1).map((l) => l.replace(/\r$/, "").slice(0, LONGEST_LINE));
  return { startLine: from + 1, endLine: to + 1, text: kept.join("\n") };
}
