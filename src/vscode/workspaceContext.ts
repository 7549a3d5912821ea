// Other files for a place in a document: one index for each workspace folder, in a thread of its own.
import { relative, sep } from "node:path";
import * as vscode from "vscode";
import type { ExtraChunk } from "../../engine/protocol/api.ts";
import type { Logger } from "../base/logger.ts";
import { ContextClient } from "../context/contextClient.ts";
import { chunksOf, type Retrieval } from "../context/snippet.ts";
import { contextTokens, isOnFor } from "./config.ts";
import { placeOf } from "./documentSnapshot.ts";

/** An index that stopped by itself is not started again sooner than this. Milliseconds. */
const RESTART_MS = 60_000;

export class WorkspaceContext implements vscode.Disposable {
  readonly #script: string;
  readonly #storeFolder: string;
  readonly #log: Logger;
  readonly #onIndexed: () => void;
  readonly #clients = new Map<string, { client: ContextClient; startedMs: number }>();
  readonly #listening: vscode.Disposable;

  /** `onIndexed` hears when an index knows more than it said before. */
  constructor(context: vscode.ExtensionContext, log: Logger, onIndexed: () => void) {
    this.#script = vscode.Uri.joinPath(context.extensionUri, "dist", "contextWorker.js").fsPath;
    this.#storeFolder = vscode.Uri.joinPath(context.globalStorageUri, "context").fsPath;
    this.#log = log;
    this.#onIndexed = onIndexed;
    const files = vscode.workspace.createFileSystemWatcher("**/*");
    const changed = (uri: vscode.Uri) => this.#changed(uri);
    this.#listening = vscode.Disposable.from(
      files,
      files.onDidCreate(changed),
      files.onDidChange(changed),
      files.onDidDelete(changed),
      // A text that is left unsaved is what the next file sees.
      vscode.window.onDidChangeActiveTextEditor(() => this.#takeUnsaved()),
      vscode.window.onDidChangeTextEditorSelection(({ textEditor, selections }) => {
        const line = selections[0]?.active.line;
        if (line !== undefined) this.#visited(textEditor.document, line, false);
      }),
      vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
        const line = contentChanges[0]?.range.start.line;
        if (line !== undefined) this.#visited(document, line, true);
      }),
      // And what is closed without saving was never written.
      vscode.workspace.onDidCloseTextDocument(({ uri }) => this.#changed(uri)),
      vscode.workspace.onDidChangeWorkspaceFolders(() => this.stop()),
      vscode.workspace.onDidGrantWorkspaceTrust(onIndexed),
    );
  }

  /** What the index of the document's folder gives for a place; undefined where nothing may or can be read. */
  async retrieve(
    document: vscode.TextDocument,
    position: vscode.Position,
    budgetTokens = contextTokens(document),
  ): Promise<Retrieval | undefined> {
    // Nothing of an untrusted workspace is read but the file that its user opened.
    if (!vscode.workspace.isTrusted || budgetTokens <= 0) return undefined;
    const place = placeOf(document);
    if (!place) return undefined;
    return await this.#clientOf(place.folder).retrieve(
      {
        path: place.filename,
        text: document.getText(),
        offset: document.offsetAt(position),
      },
      budgetTokens,
    );
  }

  /** The same as chunks for a prompt. */
  async chunks(
    document: vscode.TextDocument,
    position: vscode.Position,
  ): Promise<readonly ExtraChunk[]> {
    const retrieval = await this.retrieve(document, position);
    return retrieval ? chunksOf(retrieval.snippets) : [];
  }

  /** Texts of files that are like the document; none where nothing may or can be read. */
  async related(document: vscode.TextDocument): Promise<readonly string[]> {
    const place = vscode.workspace.isTrusted ? placeOf(document) : undefined;
    if (!place || contextTokens(document) <= 0) return [];
    return await this.#clientOf(place.folder).related(place.filename);
  }

  /** Ends all threads; the next question starts one again. */
  stop(): void {
    for (const { client } of this.#clients.values()) void client.close();
    this.#clients.clear();
  }

  dispose(): void {
    this.#listening.dispose();
    this.stop();
  }

  #clientOf(folder: vscode.WorkspaceFolder): ContextClient {
    const root = folder.uri.fsPath;
    const known = this.#clients.get(root);
    const startedMs = Date.now();
    if (known && (!known.client.isClosed || startedMs - known.startedMs < RESTART_MS))
      return known.client;
    const folders = vscode.workspace.workspaceFolders ?? [];
    const otherRoots = folders.map(({ uri }) => uri.fsPath).filter((path) => path !== root);
    const options = { root, otherRoots, storeFolder: this.#storeFolder };
    const client = new ContextClient(this.#script, options, {
      onNews: (news) => this.#log.info(`context: ${news}`),
      onIndexed: this.#onIndexed,
    });
    this.#clients.set(root, { client, startedMs });
    return client;
  }

  #changed(uri: vscode.Uri): void {
    const root = vscode.workspace.getWorkspaceFolder(uri)?.uri.fsPath;
    if (root === undefined || uri.scheme !== "file") return;
    const path = relative(root, uri.fsPath).split(sep).join("/");
    this.#clients.get(root)?.client.changed([path]);
  }

  /** Other files' contexts may hold what was just looked at or changed. */
  #visited(document: vscode.TextDocument, line: number, isEdited: boolean): void {
    const place = placeOf(document);
    const known = place && this.#clients.get(place.folder.uri.fsPath);
    if (place && known && isOnFor(document))
      known.client.visited({ path: place.filename, line, isEdited });
  }

  #takeUnsaved(): void {
    for (const document of vscode.workspace.textDocuments) {
      const place = document.isDirty && isOnFor(document) ? placeOf(document) : undefined;
      const known = place && this.#clients.get(place.folder.uri.fsPath);
      if (place && known) known.client.edited(place.filename, document.getText());
    }
  }
}
