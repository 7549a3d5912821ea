// "Tidepool: Why No Suggestion?" and "Tidepool: Copy Completion Report".
import * as vscode from "vscode";
import { CompletionTrace } from "../completion/trace/completionTrace.ts";
import { documentOf, documentWithoutCode } from "../completion/trace/traceDocument.ts";
import { figuresOf } from "../completion/trace/traceFigures.ts";
import { type About, reportOf } from "../completion/trace/traceReport.ts";
import type { FoundTrace, TraceStore } from "../completion/trace/traceStore.ts";
import type { EngineState } from "../engineClient/engineState.ts";
import { whyNotAsked } from "./asking.ts";
import type { Confidence } from "./confidence.ts";
import { editorAsks } from "./config.ts";
import { tellInfo } from "./notifications.ts";
import type { ReadOnlyDocuments } from "./readOnlyDocuments.ts";
import { traceAsked } from "./traceAsked.ts";

export const TRACE_SCHEME = "tidepool-trace";

const NAME = "Why No Suggestion.md";

export interface TraceSources {
  traces: TraceStore;
  confidence: Confidence;
}

/** Opens what happened to the last request in the active editor, with its code. */
export async function showWhy(
  sources: TraceSources,
  documents: ReadOnlyDocuments,
  about: About,
): Promise<void> {
  const found = await find(sources);
  if (!found) return tellNothingAsked();
  const earlier = sources.traces.all();
  const text = found.trace
    ? documentOf(found.trace, earlier, about)
    : documentWithoutCode(found.figures, earlier, about);
  await documents.show(NAME, text);
}

/** Puts the same without any code into the clipboard. */
export async function copyReport(sources: TraceSources, about: About): Promise<void> {
  const found = await find(sources);
  if (!found) return tellNothingAsked();
  await vscode.env.clipboard.writeText(reportOf(found.figures, sources.traces.all(), about));
  tellInfo("the report is in the clipboard. It holds no code.");
}

/** Versions and the model, for the end of a report. */
export function aboutOf(context: vscode.ExtensionContext, state: EngineState): About {
  const { version } = context.extension.packageJSON as { version: string };
  const engine =
    state.kind === "ready" || state.kind === "working"
      ? { model: state.model.id, device: state.model.device }
      : {};
  return {
    Tidepool: version,
    "VS Code": vscode.version,
    platform: `${process.platform} ${process.arch}`,
    engine: state.kind,
    ...engine,
  };
}

/** The last request; or why none would be made at the cursor now, when something changed since. */
async function find({ traces, confidence }: TraceSources): Promise<FoundTrace | undefined> {
  const editor = vscode.window.activeTextEditor;
  const document = editor?.document;
  const latest = traces.latest(document?.uri.toString() ?? "");
  if (!document || document.uri.scheme === TRACE_SCHEME) return latest;
  const trace = new CompletionTrace();
  trace.asked = traceAsked(document, "typing", confidence.thresholdFor(document));
  const why = await whyNotAsked(document, editor.selection.active, trace);
  if (!why) return latest;
  trace.finish({ kind: "not-asked", why });
  return { trace, figures: figuresOf(trace) };
}

function tellNothingAsked(): void {
  tellInfo(
    editorAsks()
      ? "the editor has asked for no suggestion yet. Type something first."
      : "the editor asks for no suggestions, because “editor.inlineSuggest.enabled” is off.",
  );
}
