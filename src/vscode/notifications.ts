// The only place that speaks to the user in a message.
import * as vscode from "vscode";
import { errorText } from "../base/errorText.ts";
import { commandIds } from "./commandIds.ts";

const SHOW_LOG = "Show Log";
const RESTART = "Restart Engine";

/** Tells why the engine does not run, with what can be done about it. */
export async function tellEngineFailed(reason: string): Promise<void> {
  const choice = await vscode.window.showErrorMessage(`Tidepool: ${reason}`, RESTART, SHOW_LOG);
  if (choice === RESTART) await vscode.commands.executeCommand(commandIds.restart);
  if (choice === SHOW_LOG) await vscode.commands.executeCommand(commandIds.showLog);
}

/** Tells that a command which the user gave has failed. */
export function tellCommandFailed(error: unknown): void {
  void vscode.window.showErrorMessage(`Tidepool: ${errorText(error)}`);
}

export function tellInfo(message: string): void {
  void vscode.window.showInformationMessage(`Tidepool: ${message}`);
}
