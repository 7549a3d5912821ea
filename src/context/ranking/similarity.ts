// Names that stand where the surroundings look like those of the cursor.
import type { IndexedFile } from "../repositoryIndex.ts";
import { featureIndex as at, type Evidence } from "./features.ts";
import { filesWith, type Scene } from "./scene.ts";
import { scratchOf } from "./scratch.ts";

const MOST_QUERY_NAMES = 48;
/** Names in more files than this tell places apart no more. */
const MOST_POSTINGS = 600;
const SCANNED_FILES = 48;
const SIMILAR_FILES = 16;
/** Lines before and after that make up a line's surroundings. */
const LINES_BEFORE = 7;
const LINES_AFTER = 4;
const MOST_VOTE = 10;
const MOST_OCCURRENCES = 4000;

/** Sums by name. Places for all names take less time than a map of those that have one. */
class Votes {
  /** Names with a vote, in the order of their first. */
  readonly names: number[] = [];
  readonly #sums: Float32Array;

  /** `sums` are zeros, one for each name that may get a vote. */
  constructor(sums: Float32Array) {
    this.#sums = sums;
  }

  /** `vote` is more than 0. */
  add(name: number, vote: number): void {
    const sum = this.#sums[name] ?? 0;
    if (sum === 0) this.names.push(name);
    this.#sums[name] = sum + vote;
  }

  of(name: number): number {
    return this.#sums[name] ?? 0;
  }

  /** Takes all votes back. */
  clear(): void {
    for (const name of this.names) this.#sums[name] = 0;
    this.names.length = 0;
  }
}

function votesOf(
  { index }: Scene,
  use: "votes" | "votesOfPairs" | "queryWeights" = "votes",
): Votes {
  return new Votes(scratchOf(index).floats(use, index.names.size));
}

interface Query {
  /** By name id; 0 for names that are not asked for. */
  weights: Float32Array;
  names: number[];
  total: number;
}

/** Rarity of a name: high when few files have it. */
export function rarity(scene: Scene, name: number): number {
  const { files } = scene.index;
  const all = files.has(scene.path) ? files.size : files.size + 1;
  return Math.log(1 + (all + 1) / (filesWith(scene, name) + 0.5));
}

function queryOf(scene: Scene): Query {
  const scored: [number, number][] = [];
  for (const [name, weight] of scene.near) {
    if (filesWith(scene, name) > MOST_POSTINGS) continue;
    scored.push([name, weight * rarity(scene, name) ** 1.5]);
  }
  scored.sort((a, b) => b[1] - a[1]);
  const weights = scratchOf(scene.index).floats("queryWeights", scene.index.names.size);
  const names: number[] = [];
  let total = 0;
  for (const [name, weight] of scored.slice(0, MOST_QUERY_NAMES)) {
    weights[name] = weight;
    total += weight;
    names.push(name);
  }
  return { weights, names, total: total || 1 };
}

/** Files by the sum of the weights of the names that they hold, the best first. */
function bestFiles(
  scene: Scene,
  weighted: Iterable<[number, number]>,
  most: number,
): [IndexedFile, number][] {
  const { index, self } = scene;
  const sums = scratchOf(index).floats("files", index.slots);
  const found: IndexedFile[] = [];
  for (const [name, weight] of weighted)
    for (const file of index.postings.get(name) ?? []) {
      if (file === self) continue;
      const sum = sums[file.slot] ?? 0;
      if (sum === 0) found.push(file);
      sums[file.slot] = sum + weight;
    }
  return found
    .map((file): [IndexedFile, number] => [file, sums[file.slot] ?? 0])
    .sort((a, b) => b[1] - a[1])
    .slice(0, most);
}

/** Votes of lines whose surroundings share names with those of the cursor. */
export function voteByLines(scene: Scene, evidence: Evidence): void {
  const query = queryOf(scene);
  const weighted = query.names.map((name): [number, number] => [name, query.weights[name] ?? 0]);
  const files = bestFiles(scene, weighted, SCANNED_FILES);
  const votes = votesOf(scene);
  for (const [file] of files) voteInFile(scene, file, query, { votes, evidence });
  for (const name of votes.names)
    evidence.raise(name, at.similarLines, Math.min(MOST_VOTE, Math.log1p(votes.of(name) * 40)));
}

function voteInFile(
  { index }: Scene,
  { ids, starts }: IndexedFile,
  { weights, total }: Query,
  { votes, evidence }: { votes: Votes; evidence: Evidence },
): void {
  const lines = starts.length - 1;
  /** Of line i: the sum of the lines before it. */
  const sums = scratchOf(index).floats("lines", lines + 1);
  let sum = 0;
  let at = 0;
  for (let line = 0; line < lines; line++) {
    const end = starts[line + 1] ?? 0;
    for (; at < end; at++) sum += weights[ids[at] ?? 0] ?? 0;
    sums[line + 1] = sum;
  }
  for (let line = 0; line < lines; line++) {
    const start = starts[line] ?? 0;
    const end = starts[line + 1] ?? 0;
    if (start === end) continue;
    const from = Math.max(0, line - LINES_BEFORE);
    const to = Math.min(lines, line + LINES_AFTER + 1);
    const around = ((sums[to] ?? 0) - (sums[from] ?? 0)) / total;
    if (around < 0.02) continue;
    const vote = around * around;
    for (let i = start; i < end; i++) {
      const name = ids[i] ?? 0;
      if (evidence.accepts(name)) votes.add(name, vote);
    }
  }
}

/** Votes of whole files that share rare names with this one. */
export function voteByFiles(scene: Scene, evidence: Evidence): void {
  const weighted: [number, number][] = [];
  for (const name of [...scene.near.keys(), ...scene.imported]) {
    if (filesWith(scene, name) <= 60) weighted.push([name, rarity(scene, name)]);
  }
  const files = bestFiles(scene, weighted, SIMILAR_FILES);
  const best = files[0]?.[1] ?? 1;
  const votes = votesOf(scene);
  for (const [file, score] of files) {
    const vote = (score / best) ** 2;
    for (const name of file.distinct) if (evidence.accepts(name)) votes.add(name, vote);
  }
  for (const name of votes.names) evidence.raise(name, at.similarFiles, Math.log1p(votes.of(name)));
}

interface Followers {
  /** How often names come right after, after this pair, or later on the line. */
  next: Votes;
  afterTwo: Votes;
  later: Votes;
}

/** Names that follow the last names of the line elsewhere in the repository. */
export function voteByPrecedingNames(scene: Scene, evidence: Evidence): void {
  const next = votesOf(scene);
  const afterTwo = votesOf(scene, "votesOfPairs");
  const later = votesOf(scene, "queryWeights");
  for (const [rank, name] of scene.before.slice(0, 3).entries()) {
    let seen = 0;
    for (const file of scene.index.postings.get(name) ?? []) {
      if (file === scene.self) continue;
      seen += countFollowers(file, name, scene.before[rank + 1], { next, afterTwo, later });
      if (seen > MOST_OCCURRENCES) break;
    }
    const share = 1 / (rank + 1);
    const raise = (counts: Votes, vote: number) => {
      for (const follower of counts.names)
        evidence.raise(follower, vote, share * Math.log1p((20 * counts.of(follower)) / (seen + 3)));
    };
    raise(next, rank === 0 ? at.nextName : at.sameLine);
    raise(later, at.sameLine);
    if (rank === 0) voteByPairs(afterTwo, evidence);
    for (const counts of [next, afterTwo, later]) counts.clear();
  }
}

function voteByPairs(counts: Votes, evidence: Evidence): void {
  let pairs = 0;
  for (const follower of counts.names) pairs += counts.of(follower);
  for (const follower of counts.names)
    evidence.raise(follower, at.nextAfterTwo, Math.log1p((20 * counts.of(follower)) / (pairs + 3)));
}

function countFollowers(
  { ids, starts }: IndexedFile,
  name: number,
  nameBefore: number | undefined,
  { next, afterTwo, later }: Followers,
): number {
  let seen = 0;
  for (let i = ids.indexOf(name); i >= 0; i = ids.indexOf(name, i + 1)) {
    seen++;
    const line = lineOf(starts, i);
    const end = Math.min(starts[line + 1] ?? 0, i + 8);
    const follower = ids[i + 1];
    if (i + 1 < end && follower !== undefined) {
      next.add(follower, 1);
      if (nameBefore !== undefined && i > (starts[line] ?? 0) && ids[i - 1] === nameBefore)
        afterTwo.add(follower, 1);
    }
    for (let j = i + 2; j < end; j++) later.add(ids[j] ?? 0, 1);
  }
  return seen;
}

/** The line on which the name at `place` of a file's names stands. */
function lineOf(starts: Uint32Array, place: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low + 1 < high) {
    const middle = (low + high) >>> 1;
    if ((starts[middle] ?? 0) <= place) low = middle;
    else high = middle;
  }
  return low;
}
