// What follows where the text reads like the text before the cursor: token by token, by vote of all such places.
import { wordsOf } from "./enclosing.ts";
import { kindOf, type TokenKind, type Vocabulary } from "./tokens.ts";
import type { TokenText } from "./tokenText.ts";

/** More tokens that agree do not make a place likelier. */
const LONGEST_MATCH = 10;
const MOST_STEPS = 24;
/** A place counts e to the power of this more for every token before it that agrees, up to so many. */
const PER_AGREEING_TOKEN = 1.1;
const MOST_COUNTED = 8;
/** Of one text: of very frequent tokens, such as line breaks, the last ones. */
const MOST_PLACES = 1000;
/** A place counts more in the same function or type, and in one whose name shares a word with the cursor's. */
const SAME_ENCLOSING = 3;
const SIMILAR_ENCLOSING = 2;
/** What it counts for a name that holds a word of its own function's name, which the cursor's has not. */
const FOREIGN_WORD = 0.5;
/** The same where nothing of the name was typed. */
const FOREIGN_FIRST = 0.25;
/** What a place in another file counts. */
const ELSEWHERE = 0.5;

/** Texts to look in, and the cursor's. */
export interface Surroundings {
  vocabulary: Vocabulary;
  /** Tokens before the cursor, without a name that was begun. */
  before: Int32Array;
  /** The first tokens of `before`, indexed; the others are searched. */
  above: TokenText;
  after: TokenText;
  related: readonly TokenText[];
  /** The name that was begun; empty when none was. */
  start: string;
  /** Name of the function or type that encloses the cursor. */
  enclosing: string | undefined;
}

/** One more token of the text that most places agree on. */
export interface Step {
  /** Without the part that is typed. */
  text: string;
  /** `first`: behind a whole token; `rest`: of a name that was begun; else the kind of a token further on. */
  stage: "first" | "rest" | TokenKind;
  /** Most tokens that agree before one of the places, blanks apart. */
  agreeing: number;
  /** Of all that the places vote for. */
  share: number;
  /** Places that are left. */
  nPlaces: number;
}

interface Place {
  ids: Int32Array;
  /** Index of the token that continues the text at the cursor. */
  at: number;
  agreeing: number;
  weight: number;
  kinship: Kinship;
}

/** How the name of what encloses a place is to that of what encloses the cursor. */
interface Kinship {
  weight: number;
  /** Words that only the place's has. */
  foreign: ReadonlySet<string>;
}

/** The likeliest tokens behind the cursor, from the first on; ends where no place goes on. */
export function* continuation(around: Surroundings): Generator<Step> {
  let places = placesIn(around);
  const weightFor = weighing(around);
  for (let i = 0; i < MOST_STEPS && places.length > 0; i++) {
    const votes = new Map<number, number>();
    let total = 0;
    for (const place of places) {
      total += place.weight;
      const id = place.ids[place.at + i];
      if (id !== undefined) votes.set(id, (votes.get(id) ?? 0) + weightFor(place, id, i));
    }
    const [best, share] = mostVoted(votes);
    if (best === undefined) return;
    places = places.filter(({ ids, at }) => ids[at + i] === best);
    const token = around.vocabulary.textOf(best);
    const begun = around.start === "" ? "first" : "rest";
    yield {
      text: i === 0 ? token.slice(around.start.length) : token,
      stage: i === 0 ? begun : kindOf(token),
      agreeing: Math.max(...places.map(({ agreeing }) => agreeing)) + Math.floor(i / 2),
      share: share / total,
      nPlaces: places.length,
    };
  }
}

/** What a place counts for a token that is so many behind the cursor: less for the words of another function's name. */
function weighing({ vocabulary, start }: Surroundings) {
  const words = new Map<number, readonly string[]>();
  const wordsOfToken = (id: number) => {
    const token = vocabulary.textOf(id);
    const found = words.get(id) ?? (kindOf(token) === "name" ? wordsOf(token) : []);
    words.set(id, found);
    return found;
  };
  return ({ weight, kinship: { foreign } }: Place, id: number, i: number): number => {
    if (foreign.size === 0 || !wordsOfToken(id).some((word) => foreign.has(word))) return weight;
    return weight * (i === 0 && start === "" ? FOREIGN_FIRST : FOREIGN_WORD);
  };
}

function mostVoted(votes: ReadonlyMap<number, number>): [id: number | undefined, votes: number] {
  let best: number | undefined;
  let most = 0;
  for (const [id, n] of votes) {
    if (n <= most) continue;
    best = id;
    most = n;
  }
  return [best, most];
}

/** Places whose token may continue the text at the cursor: the nearest first. */
function placesIn(around: Surroundings): Place[] {
  const { before, above, after, related } = around;
  const places: Place[] = [];
  const kinships = new Map<string, Kinship>();
  const add = (ids: Int32Array, at: number, scope: number, enclosing: string | undefined) => {
    const agreeing = agreement(around, ids, at);
    if (around.start === "" && agreeing === 0) return;
    const kinship = kinshipOf(enclosing, around.enclosing, kinships);
    const agreed = Math.exp(PER_AGREEING_TOKEN * Math.min(agreeing, MOST_COUNTED));
    places.push({ ids, at, agreeing, weight: scope * kinship.weight * agreed, kinship });
  };
  const nIndexed = above.ids.length - 1;
  for (let at = before.length - 1; at > nIndexed; at--)
    if (fits(around, before, at)) add(before, at, 1, around.enclosing);
  for (const at of [...candidates(around, above)].reverse())
    if (at <= nIndexed) add(before, at, 1, above.enclosing(at));
  for (const at of candidates(around, after)) add(after.ids, at, 1, after.enclosing(at));
  for (const text of related)
    for (const at of candidates(around, text)) add(text.ids, at, ELSEWHERE, text.enclosing(at));
  return places;
}

const NO_KIN: Kinship = { weight: 1, foreign: new Set() };

function kinshipOf(
  theirs: string | undefined,
  ours: string | undefined,
  known: Map<string, Kinship>,
): Kinship {
  if (theirs === undefined || ours === undefined) return NO_KIN;
  const found = known.get(theirs);
  if (found) return found;
  const our = new Set(wordsOf(ours));
  const their = wordsOf(theirs);
  const foreign = new Set(their.filter((word) => !our.has(word)));
  const similar = foreign.size < their.length ? SIMILAR_ENCLOSING : 1;
  const kinship = { weight: theirs === ours ? SAME_ENCLOSING : similar, foreign };
  known.set(theirs, kinship);
  return kinship;
}

function fits({ before, start, vocabulary }: Surroundings, ids: Int32Array, at: number): boolean {
  if (start === "") return ids[at - 1] === before.at(-1);
  const token = vocabulary.textOf(ids[at] ?? -1);
  return token.length > start.length && token.startsWith(start);
}

function* candidates({ before, start }: Surroundings, text: TokenText): Generator<number> {
  const last = before.at(-1);
  if (start !== "") yield* text.placesOfNames(start);
  else if (last !== undefined)
    for (const at of text.lastPlacesOf(last, MOST_PLACES))
      if (at + 1 < text.ids.length) yield at + 1;
}

/** Tokens before `at` that are those before the cursor, blanks apart. */
function agreement({ before, vocabulary }: Surroundings, ids: Int32Array, at: number): number {
  const cursor = before.length;
  let n = 0;
  for (let back = 1; n < LONGEST_MATCH && back <= at && back <= cursor; back++) {
    const id = ids[at - back] ?? -1;
    if (id !== before[cursor - back]) break;
    if (!vocabulary.isBlank(id)) n++;
  }
  return n;
}
