// As much of VS Code as the extension touches, for unit tests of it as a whole: `vscode` stands for this file there
// (vitest.config.ts). What a user does is done through `editor`.
import { posix } from "node:path";

type Listener = (event: never) => unknown;

/** Everything is one disposable that does nothing, unless it says otherwise. */
const nothing = { dispose: () => undefined };

export class EventEmitter<T> {
  readonly #listeners = new Set<(event: T) => unknown>();
  readonly event = (listener: (event: T) => unknown) => {
    this.#listeners.add(listener);
    return { dispose: () => this.#listeners.delete(listener) };
  };

  fire(event: T): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  dispose(): void {
    this.#listeners.clear();
  }
}

export const Disposable = {
  from: (...parts: { dispose(): unknown }[]) => ({
    dispose: () => parts.forEach((part) => void part.dispose()),
  }),
};

export class Uri {
  readonly scheme: string;
  readonly path: string;

  constructor(scheme: string, path: string) {
    this.scheme = scheme;
    this.path = path;
  }

  static file(path: string): Uri {
    return new Uri("file", path);
  }

  static joinPath(uri: Uri, ...parts: string[]): Uri {
    return new Uri(uri.scheme, posix.join(uri.path, ...parts));
  }

  get fsPath(): string {
    return this.path;
  }

  toString(): string {
    return `${this.scheme}://${this.path}`;
  }
}

export class Position {
  readonly line: number;
  readonly character: number;

  constructor(line: number, character: number) {
    this.line = line;
    this.character = character;
  }

  translate(lines: number, characters: number): Position {
    return new Position(this.line + lines, this.character + characters);
  }
}

export class Range {
  readonly start: Position;
  readonly end: Position;

  constructor(...ends: [Position, Position] | [number, number, number, number]) {
    const [a, b] = ends;
    if (ends.length === 4) {
      this.start = new Position(ends[0], ends[1]);
      this.end = new Position(ends[2], ends[3]);
    } else {
      this.start = a as Position;
      this.end = b as Position;
    }
  }
}

export class InlineCompletionItem {
  command: unknown;
  readonly insertText: string;

  constructor(insertText: string) {
    this.insertText = insertText;
  }
}

export class MarkdownString {
  appendText(): this {
    return this;
  }

  appendMarkdown(): this {
    return this;
  }
}

export class ThemeColor {}
export const InlineCompletionTriggerKind = { Invoke: 0, Automatic: 1 };
export const StatusBarAlignment = { Right: 2 };
export const ExtensionMode = { Production: 1 };
export const ConfigurationTarget = { Global: 1, Workspace: 2 };

/** A document of one line after the other, whose cursor stands at its end. */
export class Document {
  readonly uri: Uri;
  readonly languageId: string;
  readonly isClosed = false;
  readonly isUntitled = false;
  readonly isDirty = false;
  readonly #text: string;

  constructor(path: string, languageId: string, text: string) {
    this.uri = Uri.file(path);
    this.languageId = languageId;
    this.#text = text;
  }

  get end(): Position {
    const lines = this.#text.split("\n");
    return new Position(lines.length - 1, lines.at(-1)?.length ?? 0);
  }

  getText(range?: Range): string {
    return range
      ? this.#text.slice(this.offsetAt(range.start), this.offsetAt(range.end))
      : this.#text;
  }

  offsetAt({ line, character }: Position): number {
    const lines = this.#text.split("\n");
    const before = lines.slice(0, line).reduce((sum, text) => sum + text.length + 1, 0);
    return Math.min(this.#text.length, before + character);
  }
}

interface Provider {
  provideInlineCompletionItems(
    document: Document,
    position: Position,
    context: object,
    token: object,
  ): Promise<InlineCompletionItem[]>;
}

const settings = new Map<string, unknown>();
const handlers = new Map<string, (...args: unknown[]) => unknown>();
const configured = new EventEmitter<{ affectsConfiguration(name: string): boolean }>();
const selected = new EventEmitter<object>();
const state: { folder: string; trusted: boolean; provider: Provider | undefined } = {
  folder: "/",
  trusted: true,
  provider: undefined,
};

export const workspace = {
  get isTrusted(): boolean {
    return state.trusted;
  },
  get workspaceFolders() {
    return [{ uri: Uri.file(state.folder) }];
  },
  notebookDocuments: [],
  textDocuments: [],
  getWorkspaceFolder: () => workspace.workspaceFolders[0],
  asRelativePath: (uri: Uri) => posix.relative(state.folder, uri.path),
  getConfiguration: (section: string) => ({
    get: (key: string, missing: unknown) => settings.get(`${section}.${key}`) ?? missing,
    inspect: () => ({}),
    update: (key: string, value: unknown) =>
      Promise.resolve(editor.set(`${section}.${key}`, value)),
  }),
  onDidChangeConfiguration: configured.event,
  createFileSystemWatcher: () => ({
    ...nothing,
    onDidCreate: () => nothing,
    onDidChange: () => nothing,
    onDidDelete: () => nothing,
  }),
  onDidChangeTextDocument: () => nothing,
  onDidCloseTextDocument: () => nothing,
  onDidChangeWorkspaceFolders: () => nothing,
  onDidGrantWorkspaceTrust: () => nothing,
  registerTextDocumentContentProvider: () => nothing,
};

export const window = {
  activeTextEditor: undefined as unknown,
  createOutputChannel: () => ({
    ...nothing,
    debug: nothing.dispose,
    info: nothing.dispose,
    warn: nothing.dispose,
    error: nothing.dispose,
  }),
  createStatusBarItem: () => ({ ...nothing, show: nothing.dispose }),
  onDidChangeActiveTextEditor: (_listener: Listener) => nothing,
  onDidChangeTextEditorSelection: selected.event,
  showInformationMessage: () => Promise.resolve(undefined),
  showErrorMessage: (message: string) => {
    throw new Error(message);
  },
};

export const languages = {
  registerInlineCompletionItemProvider: (_where: object, provider: Provider) => {
    state.provider = provider;
    return nothing;
  },
};

export const commands = {
  registerCommand: (id: string, handler: (...args: unknown[]) => unknown) => {
    handlers.set(id, handler);
    return nothing;
  },
};

/** What a user does, and what the machine is like. */
export const editor = {
  /** Begins anew with a workspace folder. */
  reset(folder: string, trusted = true): void {
    settings.clear();
    handlers.clear();
    window.activeTextEditor = undefined;
    Object.assign(state, { folder, trusted, provider: undefined });
  },
  set(key: string, value: unknown): void {
    settings.set(key, value);
    configured.fire({ affectsConfiguration: (name) => key.startsWith(name) });
  },
  run: async (command: string, ...args: unknown[]): Promise<unknown> =>
    await handlers.get(command)?.(...args),
  /** Opens a document and puts the cursor at its end by hand. */
  open(document: Document): void {
    const textEditor = { document, selection: { active: document.end }, selections: [1] };
    window.activeTextEditor = textEditor;
    const selections = [{ active: textEditor.selection.active }];
    selected.fire({ kind: 2, textEditor, selections });
  },
  /** The editor asks for suggestions, as it does after a key; gives their texts. */
  async ask(document: Document, byHand = false): Promise<string[]> {
    const context = { triggerKind: byHand ? 0 : 1 };
    const token = { isCancellationRequested: false, onCancellationRequested: () => nothing };
    const found = await state.provider?.provideInlineCompletionItems(
      document,
      document.end,
      context,
      token,
    );
    return (found ?? []).map(({ insertText }) => insertText);
  },
};
