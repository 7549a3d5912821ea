// What passes between a client and the thread that parses for it.
import type { CursorScope, TextRange } from "../completion/cursorSyntax.ts";
import type { SyntaxWindow } from "./syntaxWindow.ts";

export type ToSyntax =
  | { kind: "scope"; id: number; window: SyntaxWindow }
  /** Strings and comments of `text` behind `head`. */
  | { kind: "literals"; id: number; filename: string; head: string; text: string };

export type FromSyntax =
  | { kind: "scope"; id: number; scope: CursorScope | undefined }
  | { kind: "literals"; id: number; literals: readonly TextRange[] | undefined }
  | { kind: "failed"; id: number; message: string };
