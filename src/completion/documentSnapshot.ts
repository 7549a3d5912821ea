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

/** Splits a snapshot at its cursor; a cursor inside a surrogate pair or a CRLF moves to before it. */
export function siteOf(snapshot: DocumentSnapshot): CursorSite {
  const { text, filename } = snapshot;
  const offset = wholeCharacter(text, snapshot.offset);
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  return siteBetween(filename, withLf(text.slice(0, offset)), withLf(text.slice(offset)), eol);
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
