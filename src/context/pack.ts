// Chooses what a budget holds: the most expected use for each byte. A file's first line costs its header too, so files
// are opened for several lines at once.
import type { Candidate } from "./ranking/candidates.ts";
import type { IndexedFile } from "./repositoryIndex.ts";
import { headerOf } from "./snippet.ts";

/** Fixed part of a line's cost, in bytes: evens out the gain of very short lines. */
const LINE_COST = 12;
/** The rest of a signature is worth this much of its first line: the names and types of what it takes. */
const TAIL_WORTH = 0.1;
/** Nothing that defines anything is shorter, in bytes. */
const SHORTEST_LINE = 8;
/** Lines that may open a file together. */
const MOST_AT_ONCE = 8;

export interface PackedLines {
  /** First line from 0: that of `candidate.definition`, or the one after it, where the rest of its signature stands. */
  line: number;
  text: string;
  /** The likeliest of the candidates that the line defines. */
  candidate: Candidate;
}

export interface PackedFile {
  file: IndexedFile;
  lines: PackedLines[];
}

interface OpenLines extends PackedLines {
  probability: number;
  bytes: number;
}

interface OpenFile {
  file: IndexedFile;
  /** The most use for a byte first. */
  waiting: OpenLines[];
  /** Of `waiting`, those that were taken or did not fit. */
  done: number;
  taken: PackedLines[];
  /** Bytes that the next line costs on top: those of the header until the file is open. */
  header: number;
}

/** Files with the chosen lines; `budget` in bytes of the rendered context. */
export function pack(candidates: readonly Candidate[], budget: number): PackedFile[] {
  const files = openFiles(candidates);
  const queue = new BestFirst(files);
  let left = budget;
  for (let next = queue.take(); next; next = queue.take()) {
    const line = next.waiting[next.done++];
    if (!line) continue;
    if (line.bytes + next.header <= left) {
      left -= line.bytes + next.header;
      next.header = 0;
      next.taken.push(line);
    }
    if (left < SHORTEST_LINE) break;
    queue.put(next);
  }
  return files
    .filter(({ taken }) => taken.length > 0)
    .map(({ file, taken }) => ({ file, lines: taken.sort((a, b) => a.line - b.line) }));
}

function openFiles(candidates: readonly Candidate[]): OpenFile[] {
  const files = new Map<IndexedFile, Map<number, OpenLines>>();
  for (const candidate of candidates) {
    const { probability, definition } = candidate;
    const { file, line, text } = definition;
    const lines = files.get(file) ?? new Map<number, OpenLines>();
    const known = lines.get(line);
    if (!known) lines.set(line, opened({ line, text, candidate }, probability));
    else {
      known.probability += probability;
      if (probability > known.candidate.probability) known.candidate = candidate;
    }
    files.set(file, lines);
  }
  return [...files].map(([file, lines]) => ({
    file,
    waiting: waitingOf(lines.values()),
    done: 0,
    taken: [],
    header: Buffer.byteLength(headerOf(file.path)),
  }));
}

function opened({ line, text, candidate }: PackedLines, probability: number): OpenLines {
  return { line, text, candidate, probability, bytes: Buffer.byteLength(text) + 1 };
}

/** The lines in the order of their use; the rest of a signature comes behind its first line, however short it is. */
function waitingOf(heads: Iterable<OpenLines>): OpenLines[] {
  const waiting: { lines: OpenLines; use: number }[] = [];
  for (const head of heads) {
    const use = useOf(head);
    waiting.push({ lines: head, use });
    const { candidate, probability, line } = head;
    const { tail } = candidate.definition;
    if (tail === "") continue;
    const rest = opened({ line: line + 1, text: tail, candidate }, probability * TAIL_WORTH);
    waiting.push({ lines: rest, use: Math.min(useOf(rest), use) });
  }
  return waiting.sort((a, b) => b.use - a.use).map(({ lines }) => lines);
}

function useOf({ probability, bytes }: OpenLines): number {
  return probability / (bytes + LINE_COST);
}

/** The use for a byte that the file's next lines have together, its header included. */
function nextUse({ waiting, done, header }: OpenFile): number {
  let probability = 0;
  let cost = header;
  let best = -1;
  for (let i = done; i < waiting.length && i < done + (header > 0 ? MOST_AT_ONCE : 1); i++) {
    const line = waiting[i];
    if (!line) break;
    probability += line.probability;
    cost += line.bytes + LINE_COST;
    if (probability / cost <= best) break;
    best = probability / cost;
  }
  return best;
}

/** A binary heap of files by the use of their next lines. */
class BestFirst {
  readonly #heap: { use: number; file: OpenFile }[] = [];

  constructor(files: readonly OpenFile[]) {
    for (const file of files) this.put(file);
  }

  /** Nothing happens when all lines of the file are done. */
  put(file: OpenFile): void {
    const use = nextUse(file);
    if (use < 0) return;
    const heap = this.#heap;
    let at = heap.push({ use, file }) - 1;
    for (let above = (at - 1) >> 1; at > 0; above = (at - 1) >> 1) {
      if ((heap[above]?.use ?? 0) >= use) break;
      this.#swap(at, above);
      at = above;
    }
  }

  take(): OpenFile | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (!top || !last || heap.length === 0) return top?.file;
    heap[0] = last;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      const child = (heap[left + 1]?.use ?? -1) > (heap[left]?.use ?? -1) ? left + 1 : left;
      if ((heap[child]?.use ?? -1) <= last.use) return top.file;
      this.#swap(at, child);
      at = child;
    }
  }

  #swap(a: number, b: number): void {
    const heap = this.#heap;
    const [left, right] = [heap[a], heap[b]];
    if (!left || !right) return;
    heap[a] = right;
    heap[b] = left;
  }
}
