/** A document as it stood when a completion was asked for. */
export interface DocumentSnapshot {
  /** Path relative to the workspace with forward slashes; the base name for a file outside of it. */
  filename: string;
  /** Whole text, with the document's own line ends. */
  text: string;
  /** Cursor, in UTF-16 units from the start of `text`. */
  offset: number;
}

/** The text around a cursor with LF line ends: what the model reads and what filters compare with. */
export interface CursorSite {
  filename: string;
  /** Everything before the cursor. */
  prefix: string;
  /** Everything after the cursor. */
  suffix: string;
  /** The part of `prefix` on the cursor's line. */
  lineBefore: string;
  /** The part of `suffix` on the cursor's line. */
  lineAfter: string;
  /** Line end of the document, for the text that is inserted. */
  eol: "\n" | "\r\n";
}

/** Of a larger document, so many lines before and behind the cursor are looked at: far more than any prompt holds. */
const LINES_AROUND = 2048;

/**
 * The lines of a document that completions look at, `end` not included. They begin and end at multiples of a large
 * number, so that typing does not move them; within them the same lines are found again.
 */
export function linesAround(line: number): { start: number; end: number } {
  const anchor = Math.floor(line / LINES_AROUND) * LINES_AROUND;
  return { start: Math.max(0, anchor - LINES_AROUND), end: anchor + 2 * LINES_AROUND };
}

/** Splits a snapshot at its cursor; a cursor inside a surrogate pair or a CRLF moves to before it. */
export function siteOf(snapshot: DocumentSnapshot): CursorSite {
  const { filename } = snapshot;
  const { text, offset } = partAround(
    snapshot.text,
    wholeCharacter(snapshot.text, snapshot.offset),
  );
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  return siteBetween(filename, withLf(text.slice(0, offset)), withLf(text.slice(offset)), eol);
}

function partAround(text: string, offset: number): Pick<DocumentSnapshot, "text" | "offset"> {
  const starts = [0];
  let at = text.indexOf("\n") + 1;
  for (; at > 0 && at <= offset; at = text.indexOf("\n", at) + 1) starts.push(at);
  const line = starts.length - 1;
  const { start, end } = linesAround(line);
  // `at` is where the line behind the cursor's begins.
  for (let next = line + 1; at > 0 && next < end; next++) at = text.indexOf("\n", at) + 1;
  const from = starts[start] ?? 0;
  return { text: text.slice(from, at > 0 ? at : undefined), offset: offset - from };
}

/** The place behind `text` once it took the place of `replaceLength` units after the cursor. */
export function siteAfterAccepting(
  site: CursorSite,
  { text, replaceLength }: { text: string; replaceLength: number },
): CursorSite {
  const prefix = site.prefix + withLf(text);
  return siteBetween(site.filename, prefix, site.suffix.slice(replaceLength), site.eol);
}

function siteBetween(
  filename: string,
  prefix: string,
  suffix: string,
  eol: CursorSite["eol"],
): CursorSite {
  const lineEnd = suffix.indexOf("\n");
  return {
    filename,
    prefix,
    suffix,
    lineBefore: prefix.slice(prefix.lastIndexOf("\n") + 1),
    lineAfter: lineEnd < 0 ? suffix : suffix.slice(0, lineEnd),
    eol,
  };
}

function wholeCharacter(text: string, offset: number): number {
  const between = text.slice(offset - 1, offset + 1);
  return /^[\uD800-\uDBFF][\uDC00-\uDFFF]$/.test(between) || between === "\r\n"
    ? offset - 1
    : offset;
}

function withLf(text: string): string {
  return text.replaceAll("\r\n", "\n");
}
