// Typed settings; the only caller of getConfiguration.
import * as vscode from "vscode";
import type { MultilineSetting } from "../completion/completionMode.ts";
import type { CompletionSettings } from "../completion/completionSettings.ts";
import type { Mode } from "../completion/confidence/modes.ts";
import { DEFAULT_CONTEXT_TOKENS } from "../context/snippet.ts";

const SECTION = "tidepool";

/** A suggestion that is not whole by then is shown as far as it goes. */
const BUDGET_MS = 500;

export interface EngineSettings {
  /** Empty: the bundled model. */
  modelPath: string;
  device: "auto" | "cpu" | "cuda";
  kvCache: "bf16" | "fp8";
  /** 0: the engine decides. */
  threads: number;
  idleExitSeconds: number;
}

function section(scope?: vscode.ConfigurationScope): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration(SECTION, scope);
}

/** Whether Tidepool is on at all. */
export function isOn(): boolean {
  return section().get("enable", true);
}

/** Whether completions are on for the document's language. Asked at every key, and each `section` costs some 40 µs. */
export function isOnFor(document: vscode.TextDocument): boolean {
  const settings = section(document);
  const languages = settings.get<Record<string, boolean>>("enableLanguages", {});
  return (
    settings.get<boolean>("enable", true) &&
    (languages[document.languageId] ?? languages["*"] ?? true)
  );
}

/** Whether the editor shows inline suggestions of anybody. */
export function editorAsks(): boolean {
  return vscode.workspace.getConfiguration("editor").get("inlineSuggest.enabled", true);
}

export function completionSettings(document: vscode.TextDocument): CompletionSettings {
  const settings = section(document);
  return {
    debounceMs: settings.get("completion.debounceMs", 20),
    maxTokens: settings.get("completion.maxTokens", 96),
    budgetMs: BUDGET_MS,
    multiline: settings.get<MultilineSetting>("completion.multiline", "auto"),
  };
}

/** How much is shown, and whether it follows what the user takes. */
export function confidenceSettings(document?: vscode.TextDocument): {
  mode: Mode;
  learns: boolean;
} {
  const settings = section(document);
  return {
    mode: settings.get<Mode>("mode", "balanced"),
    learns: settings.get("learnFromUse", true),
  };
}

export function contextTokens(document: vscode.TextDocument): number {
  return section(document).get("context.budgetTokens", DEFAULT_CONTEXT_TOKENS);
}

export function engineSettings(): EngineSettings {
  const settings = section();
  return {
    modelPath: settings.get("engine.modelPath", "").trim(),
    device: settings.get<EngineSettings["device"]>("engine.device", "auto"),
    kvCache: settings.get<EngineSettings["kvCache"]>("engine.kvCache", "bf16"),
    threads: settings.get("engine.threads", 0),
    idleExitSeconds: settings.get("engine.idleExitSeconds", 300),
  };
}

/** Switches Tidepool on or off where the user has set it: in the workspace, else for the user. */
export async function toggle(): Promise<boolean> {
  const settings = section();
  const on = !isOn();
  const inWorkspace = settings.inspect<boolean>("enable")?.workspaceValue !== undefined;
  const target = inWorkspace
    ? vscode.ConfigurationTarget.Workspace
    : vscode.ConfigurationTarget.Global;
  await settings.update("enable", on, target);
  return on;
}

/** Calls `listener` with what changed: the engine's settings or any other of ours. */
export function onChange(listener: (changed: "engine" | "other") => void): vscode.Disposable {
  return vscode.workspace.onDidChangeConfiguration((event) => {
    if (event.affectsConfiguration(`${SECTION}.engine`)) listener("engine");
    else if (event.affectsConfiguration(SECTION)) listener("other");
  });
}
