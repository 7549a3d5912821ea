// Which of the editor's files may be read and completed in.
import { dirname } from "node:path";
import * as vscode from "vscode";
import { ContextGuard, type Refusal } from "../context/guard/contextGuard.ts";
import { hasSecretName } from "../context/guard/secretNames.ts";
import { SecretWatch } from "../context/guard/secretWatch.ts";
import { snapshotOf } from "./documentSnapshot.ts";

/** By folders and trust, because both may change while the editor runs. */
const guards = new Map<string, ContextGuard>();
const unsaved = new SecretWatch();

/** The guard of a workspace folder, or of the folder of a file that lies in none. */
function guardOf(root: string): ContextGuard {
  const roots = (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
  const trusted = vscode.workspace.isTrusted;
  const key = JSON.stringify([root, trusted, roots]);
  let guard = guards.get(key);
  if (!guard) {
    guard = new ContextGuard({
      root,
      trusted,
      otherRoots: roots.filter((other) => other !== root),
    });
    guards.set(key, guard);
  }
  return guard;
}

/** Why nothing may be asked for in this document; undefined when nothing speaks against it. */
export async function refusalOf(
  document: vscode.TextDocument,
  position: vscode.Position,
): Promise<Refusal | undefined> {
  const { uri } = document;
  const place = uri.scheme === "vscode-notebook-cell" ? uri.with({ scheme: "file" }) : uri;
  const { text, offset } = snapshotOf(document, position);
  // What has never been a file has no name or place that could speak against it.
  if (uri.scheme === "untitled")
    return unsaved.hasSecret(text.slice(0, offset), text.slice(offset)) ? "secret-text" : undefined;
  const folder = vscode.workspace.getWorkspaceFolder(place);
  const root = folder?.uri.fsPath ?? dirname(place.fsPath);
  const path = folder ? vscode.workspace.asRelativePath(place, false) : place.fsPath;
  if (!folder && hasSecretName(place.path)) return "secret-name";
  return guardOf(root).refusalOfOpenFile(path, text, offset);
}
