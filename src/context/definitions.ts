// From the matches of a language's query to its definitions. Queries capture the whole definition by its kind and its
// name as @name; @container names the type of a member that stands outside of it, and @scope is a place that only
// holds members, as a Rust impl does.
import type { Node, Query } from "web-tree-sitter";

export const definitionKinds = [
  "class",
  "constant",
  "enum",
  "field",
  "function",
  "interface",
  "macro",
  "member",
  "method",
  "module",
  "type",
  "variable",
] as const;

export type DefinitionKind = (typeof definitionKinds)[number];

export interface DefinitionFacts {
  name: string;
  kind: DefinitionKind;
  /** Lines from 0: that of the name, the last of the signature, and the last of the whole definition. */
  line: number;
  signatureEnd: number;
  endLine: number;
  /** First line of the comment above; `line` when there is none. */
  docLine: number;
  /** Name of the type or module around it; empty at the top. */
  container: string;
}

interface Found extends Omit<DefinitionFacts, "docLine"> {
  start: number;
  end: number;
  isScope: boolean;
}

const kinds = new Set<string>(definitionKinds);
/** Whatever stands in these belongs to them. */
const HOLDERS = new Set<DefinitionKind>(["class", "interface", "enum", "module", "type"]);
const LONGEST_SIGNATURE = 8;
/** Without a body, these are a signature as a whole; of anything else the line of the name says the most. */
const ALL_SIGNATURE = new Set<string>(["function", "method"]);

/** Definitions in the order of the text; one for each name and place. */
export function definitionsOf(query: Query, root: Node, text: string): DefinitionFacts[] {
  const found: Found[] = [];
  for (const { captures } of query.matches(root)) {
    const definition = fromCaptures(captures);
    if (definition) found.push(definition);
  }
  found.sort((a, b) => a.start - b.start || b.end - a.end || isCalled(b) - isCalled(a));
  return withContainers(found, text.split("\n"));
}

/** A variable that holds a function is found as both; its signature says more. */
function isCalled({ kind }: Found): number {
  return ALL_SIGNATURE.has(kind) ? 1 : 0;
}

function fromCaptures(captures: readonly { name: string; node: Node }[]): Found | undefined {
  let name: Node | undefined;
  let whole: Node | undefined;
  let body: Node | undefined;
  let kind: string | undefined;
  let container = "";
  for (const capture of captures) {
    if (capture.name === "name") name = capture.node;
    else if (capture.name === "body") body = capture.node;
    else if (capture.name === "container") container = capture.node.text;
    else if (kinds.has(capture.name) || capture.name === "scope") {
      whole = capture.node;
      kind = capture.name;
    }
  }
  if (!name || !whole || kind === undefined) return undefined;
  const line = name.startPosition.row;
  const endLine = whole.endPosition.row;
  const bodyNode = body ?? whole.childForFieldName("body");
  const signatureEnd = bodyNode ? lineBefore(bodyNode) : ALL_SIGNATURE.has(kind) ? endLine : line;
  return {
    name: name.text.replace(/^[:"'$]+|["']$/g, ""),
    kind: kind === "scope" ? "class" : (kind as DefinitionKind),
    isScope: kind === "scope",
    line,
    signatureEnd: Math.max(line, Math.min(signatureEnd, endLine, line + LONGEST_SIGNATURE)),
    endLine,
    container,
    start: whole.startIndex,
    end: whole.endIndex,
  };
}

/** The line on which stands what comes before `body`: a body often begins on a line of its own. */
function lineBefore(body: Node): number {
  return (body.previousSibling ?? body).endPosition.row;
}

function withContainers(found: readonly Found[], lines: readonly string[]): DefinitionFacts[] {
  const around: Found[] = [];
  const seen = new Set<string>();
  const definitions: DefinitionFacts[] = [];
  for (const item of found) {
    while (around.length > 0 && (around.at(-1)?.end ?? 0) <= item.start) around.pop();
    const { name, kind, line, signatureEnd, endLine } = item;
    const container = item.container || nearestHolder(around);
    const isRepeatedField = kind === "field" || kind === "variable";
    const ofLine = `${line}\n${name}`;
    const key = isRepeatedField ? `${container}\n${name}` : ofLine;
    if (!item.isScope && name !== "" && !seen.has(key) && !seen.has(ofLine)) {
      seen.add(key).add(ofLine);
      const docLine = docStart(lines, line);
      definitions.push({ name, kind, line, signatureEnd, endLine, docLine, container });
    }
    if (item.end > item.start && endLine >= line) around.push(item);
  }
  return definitions;
}

function nearestHolder(around: readonly Found[]): string {
  return around.findLast(({ kind }) => HOLDERS.has(kind))?.name ?? "";
}

const COMMENT = /^\s*(?:\/\/|\/\*|\*|#(?!\s*(?:include|define|if|endif))|--|@\w|\[\w)/;

/** First line of the comment and annotations above `line`. */
function docStart(lines: readonly string[], line: number): number {
  let first = line;
  while (first > 0 && COMMENT.test(lines[first - 1] ?? "")) first--;
  return first;
}
