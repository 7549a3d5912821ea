// Chooses what a budget holds: the most expected use for each byte, grouped by file.
import type { Candidate } from "./ranking/candidates.ts";
import type { IndexedFile } from "./repositoryIndex.ts";

/** Fixed part of a line's cost, in bytes: evens out the gain of very short lines. */
const LINE_COST = 12;

export interface PackedFile {
  file: IndexedFile;
  candidates: Candidate[];
}

/** Files with the chosen definitions, in the order of their lines; `budget` in bytes of the rendered context. */
export function pack(candidates: readonly Candidate[], budget: number): PackedFile[] {
  const sorted = candidates
    .map((candidate) => ({
      candidate,
      bytes: Buffer.byteLength(candidate.definition.text) + 1,
    }))
    .map((item) => ({ ...item, density: item.candidate.probability / (item.bytes + LINE_COST) }))
    .sort((a, b) => b.density - a.density);
  const files = new Map<IndexedFile, PackedFile & { lines: Set<number> }>();
  let left = budget;
  for (const { candidate, bytes } of sorted) {
    const { file, line } = candidate.definition;
    const open = files.get(file);
    if (open?.lines.has(line)) {
      open.candidates.push(candidate);
      continue;
    }
    const header = open ? 0 : Buffer.byteLength(file.path) + 3;
    if (bytes + header > left) {
      if (left < 60) break;
      continue;
    }
    left -= bytes + header;
    if (open) {
      open.candidates.push(candidate);
      open.lines.add(line);
    } else files.set(file, { file, candidates: [candidate], lines: new Set([line]) });
  }
  return [...files.values()];
}
