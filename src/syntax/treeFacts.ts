// Questions to syntax trees that hold for every grammar, because they ask for brackets and for words in node types only.
import type { Node } from "web-tree-sitter";
import type { Container, TextRange } from "../completion/cursorSyntax.ts";

const STRING = /string|char|heredoc|regex|quoted|rune|template/;
const COMMENT = /comment/;
/** Code inside a string. */
const INTERPOLATION = /substitution|interpolation|expansion|embedded/;
const QUOTES = new Set(['"', "'", "`", "string_start"]);
const VALUE =
  /^(?:object|object_type|array|list|dictionary|set|hash|literal_value|initializer_list|struct_expression|field_initializer_list|array_.*|collection_expression|.*_pattern)$/;
const LIST = /import|export|use_list|arguments|parameters|token_tree/;

/** The node and all around it, innermost first. */
export function* ancestors(node: Node | null): Generator<Node> {
  for (let at = node; at !== null; at = at.parent) yield at;
}

/** Whether code, a string or a comment stands at the node. */
export function withinOf(leaf: Node): "code" | "string" | "comment" {
  for (const node of ancestors(leaf)) {
    if (!node.isNamed) continue;
    if (INTERPOLATION.test(node.type)) return "code";
    if (COMMENT.test(node.type)) return "comment";
    if (isString(node)) return "string";
  }
  return "code";
}

/** Whether a quote between `lineStart` and `end` was opened and not closed: such strings are errors in the tree. */
export function hasOpenQuote(root: Node, lineStart: number, end: number): boolean {
  const isQuote = (node: Node) =>
    node.startIndex >= lineStart && node.endIndex <= end && QUOTES.has(node.type);
  return leavesNear(root, lineStart, end).some(
    (leaf) => isQuote(leaf) && leaf.parent?.type === "ERROR",
  );
}

/** Leaves, in order, apart from those inside of subtrees that neither touch the range nor hold an error: these are balanced. */
export function leavesNear(root: Node, start: number, end: number): Node[] {
  const leaves: Node[] = [];
  const visit = (node: Node) => {
    if (node.childCount === 0) return void leaves.push(node);
    const touches = node.startIndex < end && node.endIndex > start;
    if (touches || node.hasError) for (const child of node.children) visit(child);
  };
  visit(root);
  return leaves;
}

/** Strings and comments from `from` on, as ranges counted from there; code inside of them is left out. */
export function literalsFrom(root: Node, from: number): TextRange[] {
  const found: TextRange[] = [];
  const visit = (node: Node) => {
    if (node.endIndex <= from) return;
    const isLiteral = node.isNamed && (COMMENT.test(node.type) || isString(node));
    if (isLiteral && !hasInterpolation(node)) {
      const start = Math.max(0, node.startIndex - from);
      found.push({ start, end: node.endIndex - from });
    } else for (const child of node.children) visit(child);
  };
  visit(root);
  return found;
}

/** What the node holds whose brackets begin with `opener`. */
export function containerOf(node: Node, opener: string): Container {
  if (opener === "(") return /spec_list|declaration$/.test(node.type) ? "block" : "list";
  if (LIST.test(node.type)) return "list";
  return opener === "[" || VALUE.test(node.type) ? "literal" : "block";
}

function isString({ type }: Node): boolean {
  return STRING.test(type) && !INTERPOLATION.test(type) && !/type|declaration|parameter/.test(type);
}

function hasInterpolation(node: Node): boolean {
  return node.children.some((child) => INTERPOLATION.test(child.type));
}
