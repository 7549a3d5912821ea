// Splits text into lines of identifiers. Comments and strings count: they speak of the same things as the code.
import type { NameTable } from "./nameTable.ts";

export interface ScannedNames {
  /** Name ids in the order of the text. */
  ids: Uint32Array;
  /** (lines + 1): the names of line i are `ids[starts[i]]` to before `ids[starts[i + 1]]`. */
  starts: Uint32Array;
}

/** Marks of the characters that a name may hold: 1 letter, `_` or `$`, 2 digit. */
const CLASS = new Uint8Array(128);
for (let code = 0; code < 128; code++) {
  const char = String.fromCharCode(code);
  CLASS[code] = /[A-Za-z_$]/.test(char) ? 1 : /\d/.test(char) ? 2 : 0;
}

/** Letters beyond ASCII are letters of names too. */
function classOf(code: number): number {
  return code < 128 ? (CLASS[code] ?? 0) : 1;
}

/** Names of one character say nothing and are left out. */
export function scanNames(text: string, table: NameTable): ScannedNames {
  const ids: number[] = [];
  const starts: number[] = [0];
  const end = text.length;
  let i = 0;
  while (i < end) {
    const code = text.charCodeAt(i);
    if (code === 10) starts.push(ids.length);
    const kind = classOf(code);
    if (kind === 0) {
      i++;
      continue;
    }
    let stop = i + 1;
    while (stop < end && classOf(text.charCodeAt(stop)) !== 0) stop++;
    if (kind === 1 && stop - i > 1 && stop - i < 100) ids.push(table.add(text.slice(i, stop)));
    i = stop;
  }
  starts.push(ids.length);
  return { ids: Uint32Array.from(ids), starts: Uint32Array.from(starts) };
}
