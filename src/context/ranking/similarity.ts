// Names that stand where the surroundings look like those of the cursor.
import type { IndexedFile } from "../repositoryIndex.ts";
import type { Evidence } from "./features.ts";
import { filesWith, type Scene } from "./scene.ts";

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

  constructor(names: number) {
    this.#sums = new Float32Array(names);
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
  const weights = new Float32Array(scene.index.names.size);
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
  const scores = new Map<IndexedFile, number>();
  for (const [name, weight] of weighted)
    for (const file of scene.index.postings[name] ?? [])
      if (file !== scene.self) scores.set(file, (scores.get(file) ?? 0) + weight);
  return [...scores].sort((a, b) => b[1] - a[1]).slice(0, most);
}

/** Votes of lines whose surroundings share names with those of the cursor. */
export function voteByLines(scene: Scene, evidence: Evidence): void {
  const query = queryOf(scene);
  const weighted = query.names.map((name): [number, number] => [name, query.weights[name] ?? 0]);
  const files = bestFiles(scene, weighted, SCANNED_FILES);
  const votes = new Votes(scene.index.names.size);
  for (const [file] of files) voteInFile(file, query, votes);
  for (const name of votes.names)
    evidence.raise(name, "similarLines", Math.min(MOST_VOTE, Math.log1p(votes.of(name) * 40)));
}

function voteInFile({ ids, starts }: IndexedFile, query: Query, votes: Votes): void {
  const lines = starts.length - 1;
  const sums = new Float32Array(lines + 1);
  for (let line = 0; line < lines; line++) {
    let weight = 0;
    for (let i = starts[line] ?? 0; i < (starts[line + 1] ?? 0); i++)
      weight += query.weights[ids[i] ?? 0] ?? 0;
    sums[line + 1] = (sums[line] ?? 0) + weight;
  }
  for (let line = 0; line < lines; line++) {
    const from = Math.max(0, line - LINES_BEFORE);
    const to = Math.min(lines, line + LINES_AFTER + 1);
    const around = ((sums[to] ?? 0) - (sums[from] ?? 0)) / query.total;
    if (around < 0.02) continue;
    for (let i = starts[line] ?? 0; i < (starts[line + 1] ?? 0); i++) {
      votes.add(ids[i] ?? 0, around * around);
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
  const votes = new Votes(scene.index.names.size);
  for (const [file, score] of files)
    for (const name of file.distinct) votes.add(name, (score / best) ** 2);
  for (const name of votes.names) evidence.raise(name, "similarFiles", Math.log1p(votes.of(name)));
}

interface Followers {
  /** How often names come right after, after this pair, or later on the line. */
  next: Map<number, number>;
  afterTwo: Map<number, number>;
  later: Map<number, number>;
}

/** Names that follow the last names of the line elsewhere in the repository. */
export function voteByPrecedingNames(scene: Scene, evidence: Evidence): void {
  for (const [rank, name] of scene.before.slice(0, 3).entries()) {
    const counts: Followers = { next: new Map(), afterTwo: new Map(), later: new Map() };
    let seen = 0;
    for (const file of scene.index.postings[name] ?? []) {
      if (file === scene.self) continue;
      seen += countFollowers(file, name, scene.before[rank + 1], counts);
      if (seen > MOST_OCCURRENCES) break;
    }
    const share = 1 / (rank + 1);
    const vote = (count: number) => share * Math.log1p((20 * count) / (seen + 3));
    for (const [follower, count] of counts.next)
      evidence.raise(follower, rank === 0 ? "nextName" : "sameLine", vote(count));
    for (const [follower, count] of counts.later) evidence.raise(follower, "sameLine", vote(count));
    if (rank > 0) continue;
    let pairs = 0;
    for (const count of counts.afterTwo.values()) pairs += count;
    for (const [follower, count] of counts.afterTwo)
      evidence.raise(follower, "nextAfterTwo", Math.log1p((20 * count) / (pairs + 3)));
  }
}

function countFollowers(
  { ids, starts }: IndexedFile,
  name: number,
  nameBefore: number | undefined,
  { next, afterTwo, later }: Followers,
): number {
  let seen = 0;
  let line = 0;
  for (let i = ids.indexOf(name); i >= 0; i = ids.indexOf(name, i + 1)) {
    seen++;
    while ((starts[line + 1] ?? 0) <= i) line++;
    const end = Math.min(starts[line + 1] ?? 0, i + 8);
    const follower = ids[i + 1];
    if (i + 1 < end && follower !== undefined) {
      next.set(follower, (next.get(follower) ?? 0) + 1);
      if (nameBefore !== undefined && i > (starts[line] ?? 0) && ids[i - 1] === nameBefore)
        afterTwo.set(follower, (afterTwo.get(follower) ?? 0) + 1);
    }
    for (let j = i + 2; j < end; j++) {
      const other = ids[j] ?? 0;
      later.set(other, (later.get(other) ?? 0) + 1);
    }
  }
  return seen;
}
