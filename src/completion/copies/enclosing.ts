// What encloses a line, by the text alone: the functions and types whose first line stands above it with less indentation.
import { indentWidth } from "../filters/indentWidth.ts";

/** Longer lines are data. */
const LONGEST_HEADER = 240;

const MODIFIERS =
  "(?:(?:export|default|async|public|private|protected|internal|static|final|abstract|override|virtual|inline|unsafe|extern|open|suspend|pub(?:\\([^)]*\\))?|const)\\s+)*";
/** A name behind a word that defines; Go's methods have their receiver before it, Ruby's `self`. */
const DEFINED = new RegExp(
  `^\\s*${MODIFIERS}(?:def|fn|func|function\\*?|fun|class|struct|interface|trait|enum|module|object|record)\\s+(?:\\([^)]*\\)\\s*)?(?:self\\.)?([\\w$]+)`,
);
const IMPLEMENTED = /^\s*impl\b(?:<[^>]*>)?\s+(?:[\w:<>, ]+\s+for\s+)?(\w+)/;
const ASSIGNED = new RegExp(
  `^\\s*${MODIFIERS}(?:(?:let|var)\\s+)?([\\w$]+)\\s*[:=]\\s*(?:async\\s*)?(?:function\\b|\\([^=]*=>)`,
);
/** A type and a name before the parameters, as in C; or a name alone, when a block opens on the line. */
const TYPED = /^\s*[\w$<>[\],.:*&?~]+\s[^=;()]*?([\w$~]+)\s*\([^;]*$/;
const NAMED = /^\s*([\w$]+)\s*\([^;]*\)[^;=]*\{\s*$/;
const STATEMENT =
  /^\s*(?:\}|else|if|for|foreach|while|switch|match|return|catch|await|throw|new|with|elif|except|using|case|do|try|lock|synchronized|unless|until|when|assert|raise|yield|print|import|from|not|and|or|in|\/|\*|#)(?![\w$])/;

/** The name of what `line` begins to define; undefined when it begins nothing. */
export function nameBegunBy(line: string): string | undefined {
  if (line.length > LONGEST_HEADER) return undefined;
  const defined = DEFINED.exec(line) ?? IMPLEMENTED.exec(line) ?? ASSIGNED.exec(line);
  if (defined) return defined[1];
  return STATEMENT.test(line) ? undefined : (TYPED.exec(line) ?? NAMED.exec(line))?.[1];
}

interface Header {
  indent: number;
  name: string;
}

/** Lines of one piece of a text, with what encloses each as far as it stands in the piece. */
export class Enclosures {
  readonly #inner: (string | undefined)[] = [];
  /** Of each line: outside of the piece it is enclosed by what has less indentation than this. */
  readonly #floors: number[] = [];
  readonly #open: Header[] = [];
  #floor = Number.POSITIVE_INFINITY;

  constructor(text: string) {
    for (const line of text.split("\n")) this.#take(line);
  }

  /** What encloses a line: its name, or the columns that something before this piece must begin left of. */
  at(line: number): string | number {
    return this.#inner[line] ?? this.#floors[line] ?? this.#floor;
  }

  /** The same for a line behind the piece, which begins at column `floor` or is bounded by it otherwise. */
  behind(floor: number): string | number {
    const header = this.#open.findLast(({ indent }) => indent < floor);
    return header?.name ?? Math.min(floor, this.#floor);
  }

  #take(line: string): void {
    if (/\S/.test(line)) {
      const indent = indentWidth(line);
      // A bracket at the start of a line belongs to what stands above it.
      const left = /^\s*[)\]}{]/.test(line) ? indent + 1 : indent;
      while ((this.#open.at(-1)?.indent ?? -1) >= left) this.#open.pop();
      this.#floor = Math.min(this.#floor, left);
      const name = nameBegunBy(line);
      if (name !== undefined) this.#open.push({ indent, name });
    }
    this.#inner.push(this.#open.at(-1)?.name);
    this.#floors.push(this.#floor);
  }
}

/** Words of a name, in lower case, without the s of a plural; those of fewer than three letters say nothing. */
export function wordsOf(name: string): string[] {
  const words = name.match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+/g) ?? [];
  return words
    .map((word) => word.toLowerCase().replace(/(?<=..)s$/, ""))
    .filter((word) => word.length > 2);
}
