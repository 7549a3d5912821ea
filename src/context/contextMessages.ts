// What passes between a client and the thread that holds its index.
import type { RecentPlace } from "./recentPlaces.ts";
import type { ContextCursor, Retrieval } from "./snippet.ts";

/** How the thread is started. */
export interface ContextWorkerData {
  role: "tidepool-context";
  root: string;
  otherRoots: string[];
  storeFolder: string;
}

export type ToContext =
  | { kind: "retrieve"; id: number; cursor: ContextCursor; budgetTokens: number }
  /** The texts of files that are like the one at `path`. */
  | { kind: "relate"; id: number; path: string }
  /** Paths relative to the root whose files were made, changed or removed. */
  | { kind: "changed"; paths: string[] }
  /** Text of an editor that is not saved. */
  | { kind: "edited"; path: string; text: string }
  /** The user is at this place now. */
  | { kind: "visited"; place: RecentPlace };

/** What answers a question with the same id. */
export type Answer =
  | { kind: "retrieved"; id: number; retrieval: Retrieval }
  | { kind: "related"; id: number; texts: string[] };

export type FromContext =
  | Answer
  /** With the id of the question that failed; without one, indexing did. */
  | { kind: "failed"; id?: number; message: string }
  | { kind: "indexed"; files: number; ms: number };
