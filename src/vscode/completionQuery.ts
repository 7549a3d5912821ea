import type * as vscode from "vscode";
import type { Trigger } from "../completion/completionMode.ts";
import type { CompletionQuery } from "../completion/completionQuery.ts";
import type { CompletionTrace } from "../completion/trace/completionTrace.ts";
import { completionSettings } from "./config.ts";
import { snapshotOf } from "./documentSnapshot.ts";
import type { WorkspaceContext } from "./workspaceContext.ts";

interface Asking {
  trigger: Trigger;
  /** Where other files come from. */
  files: WorkspaceContext;
  /** Item of the suggest widget that is selected. */
  selected?: vscode.SelectedCompletionInfo | undefined;
  trace?: CompletionTrace;
  /** Least probability of what is shown. */
  sure?: number;
}

/** What is asked of the controller at a place of a document. */
export function queryOf(
  document: vscode.TextDocument,
  position: vscode.Position,
  { trigger, files, selected, trace, sure }: Asking,
): CompletionQuery {
  return {
    snapshot: snapshotOf(document, position, selected),
    trigger,
    settings: { ...completionSettings(document), ...(sure !== undefined && { sure }) },
    related: () => files.related(document),
    context: () => files.chunks(document, position),
    ...(trace && { trace }),
  };
}
