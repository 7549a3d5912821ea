// What needs no model: the figures that a model must beat, and the best that any source can reach.
import type { Place, Source } from "./idealUser.ts";
import type { ReplaySession } from "./sessions.ts";

const WORD = /[\p{L}_$][\p{L}\p{N}_$]*/gu;
const WORD_AT_END = /[\p{L}_$][\p{L}\p{N}_$]*$/u;
/** Shorter beginnings of a line stand everywhere. */
const SHORTEST_LINE_START = 3;

/** The rest of the nearest word of the file that begins like the one at the cursor. */
export function restOfWord({ before, after }: Place): string | undefined {
  const start = WORD_AT_END.exec(before)?.[0];
  if (start === undefined) return undefined;
  const known = (text: string) =>
    (text.match(WORD) ?? []).filter((word) => word.length > start.length && word.startsWith(start));
  const nearest = known(before.slice(0, -start.length)).at(-1) ?? known(after)[0];
  return nearest?.slice(start.length);
}

/** The rest of the nearest line of the file that begins like the one at the cursor, indentation apart. */
export function restOfLine({ before, after }: Place): string | undefined {
  const lineStart = before.lastIndexOf("\n") + 1;
  const start = before.slice(lineStart).trimStart();
  if (start.trimEnd().length < SHORTEST_LINE_START) return undefined;
  const isLike = (line: string) => line.startsWith(start) && line.length > start.length;
  const above = before.slice(0, lineStart).split("\n").reverse();
  const line = [...above, ...after.split("\n")].map((text) => text.trim()).find(isLike);
  return line?.slice(start.length);
}

function immediate(find: (place: Place) => string | undefined): Source {
  return {
    offer: (place) => {
      const text = find(place);
      return text === undefined ? undefined : { text, ms: 0 };
    },
  };
}

/** Sources by the name that reports print; each gives a source for one session. */
export const PLAIN_SOURCES: Readonly<Record<string, (session: ReplaySession) => Source>> = {
  "word completion": () => immediate(restOfWord),
  "line copying": () => immediate(restOfLine),
  "words and lines": () => immediate((place) => restOfLine(place) ?? restOfWord(place)),
  // Knows the text, and shows the rest of the line.
  oracle: (session) =>
    immediate(({ before }) => {
      const rest = session.typed.slice(before.length - session.before.length).split("\n")[0];
      return rest === "" ? undefined : rest;
    }),
};
