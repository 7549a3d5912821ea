// Whether anything may be asked of the engine for a place: the one gate before completions and before reading ahead.
import * as vscode from "vscode";
import type { CompletionTrace } from "../completion/trace/completionTrace.ts";
import type { NotAsked } from "../completion/trace/explanation.ts";
import { refusalText } from "../context/guard/contextGuard.ts";
import { isOn, isOnFor } from "./config.ts";
import { refusalOf } from "./fileGuard.ts";

/** Why nothing is asked at a place of a document; undefined when nothing speaks against it. */
export async function whyNotAsked(
  document: vscode.TextDocument,
  position: vscode.Position,
  trace?: CompletionTrace,
): Promise<NotAsked | undefined> {
  const before = switchedOff(document);
  if (before) return before;
  const { isTrusted } = vscode.workspace;
  const trust = isTrusted ? "the workspace is trusted" : "not trusted: no other file is read";
  trace?.stage("trust", trace.ms, trust);
  const since = trace?.ms ?? 0;
  const refusal = await refusalOf(document, position);
  trace?.stage("file guard", since, refusal ? refusalText[refusal] : "nothing speaks against it");
  if (refusal) return { kind: "refused", because: refusalText[refusal] };
  // The user may have switched it off while the guard looked at the disk.
  return switchedOff(document);
}

function switchedOff(document: vscode.TextDocument): NotAsked | undefined {
  if (isOnFor(document)) return undefined;
  return isOn() ? { kind: "language-off", languageId: document.languageId } : { kind: "off" };
}
