// From syntax trees around a cursor to what a completion needs to know of it.
import type { Node, Tree } from "web-tree-sitter";
import type { Container, CursorScope, OpenBracket } from "../completion/cursorSyntax.ts";
import { indentWidth } from "../completion/filters/indentWidth.ts";
import type { SyntaxWindow } from "./syntaxWindow.ts";
import { ancestors, containerOf, hasOpenQuote, leavesNear, withinOf } from "./treeFacts.ts";

/** Parses a text of the window's language; undefined when that is not possible. The caller deletes the tree. */
export type Parse = (text: string) => Tree | undefined;

/** Stands at the cursor while the text around it is parsed, so that there is a node to ask. */
const PROBE = "tidepool_probe";
const CLOSERS: Record<string, OpenBracket["closer"]> = { "(": ")", "[": "]", "{": "}" };
/** Bodies that begin without a bracket. */
const BODY = /^(?:block|body_statement|then|do|else|ensure)$/;

interface Opener {
  char: string;
  index: number;
}

/** Where the cursor of the window stands; undefined when its text cannot be parsed. `language` is a grammar's name. */
export function scopeOf(
  window: SyntaxWindow,
  language: string,
  parse: Parse,
): CursorScope | undefined {
  const { head, tail } = window;
  return withTree(parse, head + PROBE + tail, (root) => {
    const cursor = head.length;
    const lineStart = head.lastIndexOf("\n") + 1;
    const within = withinOf(leafAt(root, cursor));
    const isOpenString = within === "code" && hasOpenQuote(root, lineStart, cursor);
    const leaves = leavesNear(root, cursor, cursor + PROBE.length);
    const openers = openBefore(leaves, cursor);
    const brackets = withClosers(openers, leaves, window);
    if (within !== "code" || isOpenString)
      return {
        within: isOpenString ? "string" : within,
        container: "list",
        opens: undefined,
        brackets,
      };
    const container = containerAt(head, openers, parse);
    const last = lastToken(head);
    const opens = openers.at(-1)?.index === last ? container : bodyAfter(head, language, parse);
    return { within, container, opens, brackets };
  });
}

function withTree<T>(parse: Parse, text: string, ask: (root: Node) => T): T | undefined {
  const tree = parse(text);
  if (!tree) return undefined;
  try {
    return ask(tree.rootNode);
  } finally {
    tree.delete();
  }
}

function leafAt(root: Node, index: number): Node {
  return root.descendantForIndex(index) ?? root;
}

/** Index of the last character before the cursor that is no white space. */
function lastToken(head: string): number {
  return head.trimEnd().length - 1;
}

/** Brackets of leaves before the cursor that are not closed before it, the innermost last. */
function openBefore(leaves: readonly Node[], cursor: number): Opener[] {
  const open: Opener[] = [];
  for (const leaf of leaves) {
    if (leaf.endIndex > cursor) break;
    for (const [i, char] of brackets(leaf)) {
      if (char in CLOSERS) open.push({ char, index: leaf.startIndex + i });
      else if (CLOSERS[open.at(-1)?.char ?? ""] === char) open.pop();
    }
  }
  return open;
}

function brackets(leaf: Node): [number, string][] {
  if (leaf.isNamed || leaf.isMissing) return [];
  return [...leaf.type.matchAll(/[()[\]{}]/g)].map(({ index, 0: char }) => [index, char]);
}

/** The open brackets, the innermost first, each with whether its closer follows. */
function withClosers(
  openers: readonly Opener[],
  leaves: readonly Node[],
  { head, tail, tailIsCut }: SyntaxWindow,
): OpenBracket[] {
  const closers = closersAfter(leaves, head.length);
  const indentAt = (text: string, index: number) =>
    indentWidth(text.slice(text.lastIndexOf("\n", index - 1) + 1));
  let next = 0;
  return openers.toReversed().map(({ char, index }) => {
    const closer = CLOSERS[char] ?? "}";
    const indent = indentAt(head, index);
    const found = closers[next];
    const at = found === undefined ? 0 : found.index - head.length - PROBE.length;
    const startsLine =
      /(?:^|\n)[ \t]*$/.test(tail.slice(0, at)) && tail.slice(0, at).includes("\n");
    // A closer at the start of a line of less indentation belongs to a bracket further out.
    const fits = found?.char === closer && !(startsLine && indentAt(tail, at) < indent);
    if (fits) next++;
    return { closer, closed: fits || (found === undefined && tailIsCut), indent };
  });
}

function closersAfter(leaves: readonly Node[], cursor: number): Opener[] {
  const found: Opener[] = [];
  let depth = 0;
  for (const leaf of leaves) {
    if (leaf.startIndex < cursor) continue;
    for (const [i, char] of brackets(leaf)) {
      if (char in CLOSERS) depth++;
      else if (depth > 0) depth--;
      else found.push({ char, index: leaf.startIndex + i });
    }
  }
  return found;
}

/** What the innermost open bracket holds, seen in the text before the cursor with all its brackets closed. */
function containerAt(head: string, openers: readonly Opener[], parse: Parse): Container {
  const innermost = openers.at(-1);
  if (!innermost || opensBody(head.slice(0, innermost.index), innermost.char)) return "block";
  const closed = openers.toReversed().map(({ char }) => CLOSERS[char] ?? "");
  const found = withTree(parse, head + PROBE + closed.join(""), (root) => {
    const bracket = leafAt(root, innermost.index);
    return bracket.parent ? containerOf(bracket.parent, innermost.char) : undefined;
  });
  return found ?? (innermost.char === "{" ? "block" : "list");
}

/** A brace behind a parameter list, and Go's groups of declarations: half of them are no sentence of the grammar yet. */
function opensBody(before: string, opener: string): boolean {
  if (opener === "{") return /\)\s*(?:const\s*|noexcept\s*|=>\s*)*$/.test(before);
  return opener === "(" && /(?:^|\n)[ \t]*(?:import|const|var|type)[ \t]*$/.test(before);
}

/** In languages whose bodies begin without a bracket: whether one begins behind the cursor. */
function bodyAfter(head: string, language: string, parse: Parse): Container | undefined {
  const lineBefore = head.slice(head.lastIndexOf("\n") + 1);
  if (!/\S/.test(lineBefore)) return undefined;
  if (/(?:=>|->)\s*$/.test(lineBefore)) return "block";
  const indent = /^\s*/.exec(lineBefore)?.[0] ?? "";
  switch (language) {
    case "python":
      return /:\s*$/.test(lineBefore) ? bodyIn(`${head}\n${indent}\t`, "", head, parse) : undefined;
    case "ruby":
      return bodyIn(`${head}\n`, "\nend\n", head, parse);
    case "bash":
      return /\b(?:then|do|else)\s*$/.test(lineBefore) ? "block" : undefined;
    default:
      return undefined;
  }
}

function bodyIn(before: string, after: string, head: string, parse: Parse): Container | undefined {
  return withTree(parse, before + PROBE + after, (root) => {
    for (const node of ancestors(leafAt(root, before.length)))
      if (BODY.test(node.type) && node.startIndex >= head.trimEnd().length) return "block";
    return undefined;
  });
}
