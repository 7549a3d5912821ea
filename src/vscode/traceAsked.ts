import { extname } from "node:path";
import type * as vscode from "vscode";
import type { Trigger } from "../completion/completionMode.ts";
import type { TraceAsked } from "../completion/trace/completionTrace.ts";
import type { ModeThreshold } from "./confidence.ts";

/** What a trace says of the editor's part in a request. */
export function traceAsked(
  document: vscode.TextDocument,
  trigger: Trigger,
  { mode, because }: ModeThreshold,
): TraceAsked {
  return {
    document: document.uri.toString(),
    extension: extname(document.uri.path),
    languageId: document.languageId,
    trigger,
    mode,
    learned: because,
  };
}
