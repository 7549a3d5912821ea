import type { CursorScope, CursorSyntax, TextRange } from "../completion/cursorSyntax.ts";
import type { CursorSite } from "../completion/documentSnapshot.ts";
import { languageOf, Syntax } from "../context/syntax.ts";
import { scopeOf } from "./cursorScope.ts";
import { type SyntaxWindow, syntaxWindow } from "./syntaxWindow.ts";
import { literalsFrom } from "./treeFacts.ts";

/** For programs that can wait; milliseconds. */
const LONGEST_PARSE_MS = 2000;

/** Answers in this thread: for programs that ask once, and inside of the thread that editors ask. */
export class LocalSyntax implements CursorSyntax {
  readonly #syntax = new Syntax();
  readonly #longestMs: number;

  /** Longer parses than `longestMs` are given up. */
  constructor(longestMs = LONGEST_PARSE_MS) {
    this.#longestMs = longestMs;
  }

  scopeAt(site: CursorSite): Promise<CursorScope | undefined> {
    return this.scopeIn(syntaxWindow(site));
  }

  literalsIn(site: CursorSite, text: string): Promise<readonly TextRange[] | undefined> {
    const { filename, head } = syntaxWindow(site);
    return this.literalsBehind(filename, head, text);
  }

  /** As `scopeAt`, for a window that was cut already. */
  async scopeIn(window: SyntaxWindow): Promise<CursorScope | undefined> {
    const language = languageOf(window.filename);
    if (!language) return undefined;
    await this.#syntax.load([window.filename]);
    return scopeOf(window, language.id, (text) =>
      this.#syntax.parse(window.filename, text, this.#longestMs),
    );
  }

  /** As `literalsIn`, for a text behind `head`. */
  async literalsBehind(
    filename: string,
    head: string,
    text: string,
  ): Promise<readonly TextRange[] | undefined> {
    if (!languageOf(filename)) return undefined;
    await this.#syntax.load([filename]);
    const tree = this.#syntax.parse(filename, head + text, this.#longestMs);
    if (!tree) return undefined;
    try {
      return literalsFrom(tree.rootNode, head.length).map(({ start, end }) => ({
        start,
        end: Math.min(end, text.length),
      }));
    } finally {
      tree.delete();
    }
  }
}
