// What the ranking is fitted on: candidates at masked positions, and whether their name was asked for there.
import { closeSync, openSync, writeSync } from "node:fs";
import { LiveIndex } from "../context/buildIndex.ts";
import { describedOf } from "../context/ranking/candidates.ts";
import { FEATURES } from "../context/ranking/features.ts";
import { PLACES, placeRow } from "../context/ranking/place.ts";
import { sceneOf } from "../context/ranking/scene.ts";
import type { RepositoryIndex } from "../context/repositoryIndex.ts";
import { type MaskedPosition, maskedPositions, randomOf } from "./positions.ts";
import { readBenchRepository } from "./repository.ts";

/** Candidates that were not asked for, kept of each position. */
const KEPT = 160;
const MOST_OF_FILE = 4;
/** Share of the positions at which the name has been begun. */
const TYPING = 0.15;

export interface ExampleOptions {
  roots: readonly string[];
  positions: number;
  seed: number;
  file: string;
}

/**
 * Writes rows of 32-bit floats: repository, position, whether it was asked for, how many candidates the row stands
 * for, features of the place, features of the candidate. All that were asked for are kept, and a sample of the others.
 */
export async function writeExamples(options: ExampleOptions): Promise<void> {
  const { roots, positions: count, seed, file } = options;
  const random = randomOf(seed);
  const out = openSync(file, "w");
  let position = 0;
  try {
    for (const [repository, root] of roots.entries()) {
      const live = new LiveIndex({ root });
      await live.refresh();
      const read = readBenchRepository(root, [...live.index.files.keys()]);
      for (const masked of maskedPositions(read, { count, mostOfFile: MOST_OF_FILE, seed }))
        writeSync(out, rowsOf(live.index, begun(masked, random), [repository, position++], random));
    }
  } finally {
    closeSync(out);
  }
}

/** Now and then the cursor stands inside of the first name, as it does while somebody types. */
function begun(masked: MaskedPosition, random: () => number): MaskedPosition {
  const name = /^[\w$]+/.exec(masked.rest)?.[0] ?? "";
  if (name.length < 2 || random() >= TYPING) return masked;
  const typed = name.slice(0, 1 + Math.floor(random() * Math.min(4, name.length - 1)));
  const { text, offset } = masked;
  return {
    ...masked,
    text: text.slice(0, offset) + typed + text.slice(offset),
    offset: offset + typed.length,
  };
}

function rowsOf(
  index: RepositoryIndex,
  masked: MaskedPosition,
  ids: readonly number[],
  random: () => number,
): Float32Array {
  const scene = sceneOf(index, masked);
  const place = placeRow(scene);
  const asked = new Set(masked.names.map((name) => index.names.find(name)));
  const right: Float32Array[] = [];
  const wrong: Float32Array[] = [];
  let seen = 0;
  describedOf(scene, Number.POSITIVE_INFINITY, ({ name }, features) => {
    if (asked.has(name)) right.push(features.slice());
    else if (wrong.length < KEPT) {
      seen++;
      wrong.push(features.slice());
    } else {
      seen++;
      const at = Math.floor(random() * seen);
      if (at < KEPT) wrong[at] = features.slice();
    }
  });
  const stands = wrong.length === 0 ? 1 : seen / wrong.length;
  const width = ids.length + 2 + PLACES + FEATURES;
  const rows = new Float32Array((right.length + wrong.length) * width);
  for (const [i, features] of [...right, ...wrong].entries()) {
    const isRight = i < right.length;
    rows.set([...ids, isRight ? 1 : 0, isRight ? 1 : stands], i * width);
    rows.set(place, i * width + ids.length + 2);
    rows.set(features, i * width + ids.length + 2 + PLACES);
  }
  return rows;
}
