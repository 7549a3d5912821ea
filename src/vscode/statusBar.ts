import * as vscode from "vscode";
import type { EngineState } from "../engineClient/engineState.ts";
import { type StatusView, statusView } from "./statusView.ts";

const SOON_MS = 250;

export class StatusBar implements vscode.Disposable {
  readonly #item = vscode.window.createStatusBarItem(
    "tidepool.status",
    vscode.StatusBarAlignment.Right,
    100,
  );

  #timer: NodeJS.Timeout | undefined;

  constructor() {
    this.#item.name = "Tidepool";
    this.#item.show();
  }

  update(state: EngineState, isOn: boolean, lastOutcome: string): void {
    const view = statusView(state, isOn, lastOutcome);
    this.#item.text = view.text;
    this.#item.tooltip = tooltipOf(view);
    this.#item.command = view.command;
    this.#item.backgroundColor = view.isError
      ? new vscode.ThemeColor("statusBarItem.errorBackground")
      : undefined;
  }

  /** Has `update` called a moment later, once for all that happens until then: the editor need not draw at every key. */
  soon(update: () => void): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      update();
    }, SOON_MS);
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#item.dispose();
  }
}

function tooltipOf({ tooltip, links }: StatusView): vscode.MarkdownString {
  const markdown = new vscode.MarkdownString();
  for (const line of tooltip.split("\n")) markdown.appendMarkdown(`${escaped(line)}\n\n`);
  for (const { command, title } of links) markdown.appendMarkdown(`[${title}](command:${command})`);
  markdown.isTrusted = { enabledCommands: links.map(({ command }) => command) };
  return markdown;
}

/** What the engine and the machine say is text and no Markdown. `appendText` would let no line break between words. */
function escaped(text: string): string {
  return text.replace(/[\\`*_{}[\]()#+\-.!|<>~&$]/g, "\\$&");
}
