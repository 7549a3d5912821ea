import * as vscode from "vscode";
import { resolveModel } from "../../engine/protocol/modelNames.ts";
import { readLock, resolveRuntimeDir } from "../../engine/protocol/runtime.ts";
import {
  type ConnectOptions,
  connectDaemon,
  type DaemonLink,
} from "../engineClient/connectDaemon.ts";
import { engineSettings } from "./config.ts";

export function engineScript(context: vscode.ExtensionContext): string {
  return vscode.Uri.joinPath(context.extensionUri, "dist", "engine.js").fsPath;
}

/** The settings that every command of the engine takes. */
export function modelArguments(): string[] {
  const { modelPath, threads } = engineSettings();
  const args = modelPath === "" ? [] : ["--model", modelPath];
  return threads > 0 ? [...args, "--threads", String(threads)] : args;
}

/** Finds or starts the daemon with the settings of this moment. Rejects when the setting names no model. */
export async function connectWithSettings(
  context: vscode.ExtensionContext,
  options: ConnectOptions,
): Promise<DaemonLink> {
  const { modelPath, device, kvCache, idleExitSeconds } = engineSettings();
  const runtimeDir = resolveRuntimeDir();
  const manifest = context.extension.packageJSON as { version: string };
  const models = vscode.Uri.joinPath(context.extensionUri, "engine", "models").fsPath;
  const model = modelPath === "" ? undefined : resolveModel(modelPath, models);
  const args = [
    ...["--device", device, "--kv-cache", kvCache],
    ...["--idle-exit", String(idleExitSeconds), ...modelArguments()],
  ];
  return await connectDaemon(
    {
      launch: { script: engineScript(context), args, runtimeDir, detached: true },
      needed: { version: manifest.version, ...(model !== undefined && { model }) },
      readLock: () => readLock(runtimeDir),
    },
    options,
  );
}
