import * as vscode from "vscode";
import { type CommandName, commandIds } from "./commandIds.ts";
import { tellCommandFailed } from "./notifications.ts";

export type CommandHandlers = Record<CommandName, () => void | Promise<void>>;

/** Registers every command; a handler that fails becomes a message. */
export function registerCommands(handlers: CommandHandlers): vscode.Disposable {
  const names = Object.keys(commandIds) as CommandName[];
  const registered = names.map((name) =>
    vscode.commands.registerCommand(commandIds[name], async () => {
      try {
        await handlers[name]();
      } catch (error) {
        tellCommandFailed(error);
      }
    }),
  );
  return vscode.Disposable.from(...registered);
}
