import * as vscode from "vscode";
import type { EngineState } from "../engineClient/engineState.ts";
import { statusView } from "./statusView.ts";

export class StatusBar implements vscode.Disposable {
  readonly #item = vscode.window.createStatusBarItem(
    "tidepool.status",
    vscode.StatusBarAlignment.Right,
    100,
  );

  constructor() {
    this.#item.name = "Tidepool";
    this.#item.show();
  }

  update(state: EngineState, isOn: boolean, lastOutcome: string): void {
    const view = statusView(state, isOn, lastOutcome);
    this.#item.text = view.text;
    this.#item.tooltip = view.tooltip;
    this.#item.command = view.command;
    this.#item.backgroundColor = view.isError
      ? new vscode.ThemeColor("statusBarItem.errorBackground")
      : undefined;
  }

  dispose(): void {
    this.#item.dispose();
  }
}
