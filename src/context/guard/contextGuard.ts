// The only way from a file to a prompt. Everything is checked before its text is tokenised, and what cannot be checked is refused.
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import { IgnoreRules } from "./ignoreRules.ts";
import { hasSecretName } from "./secretNames.ts";
import { secretIn } from "./secretText.ts";
import { SecretWatch } from "./secretWatch.ts";

/** Larger files are data. Bytes. */
export const LARGEST_FILE_BYTES = 1024 * 1024;
/** Of the open file, so much on both sides of the cursor is searched for secrets: more than any prompt takes. UTF-16 units. */
const SEARCHED_AROUND = 128 * 1024;
const SEARCHED_STEP = 32 * 1024;
/** More files than these are more than one project; those nearest to the folder are taken. */
const MOST_FILES = 30_000;
/** Never part of a project's own sources, ignored by git or not. */
const NOT_SOURCES = new Set([".git", ".hg", ".svn", "node_modules"]);

export type Refusal =
  | "untrusted"
  | "outside"
  | "other-root"
  | "secret-name"
  | "secret-text"
  | "git-ignored"
  | "tidepool-ignored"
  | "not-source"
  | "large"
  | "binary"
  | "unreadable";

/** In words, for the status bar, the trace and the command line. */
export const refusalText: Record<Refusal, string> = {
  untrusted: "the workspace is not trusted",
  outside: "the file lies outside of the workspace folder",
  "other-root": "the file belongs to another workspace folder",
  "secret-name": "files of this name hold secrets",
  "secret-text": "the file holds a key or a password",
  "git-ignored": "git ignores the file",
  "tidepool-ignored": ".tidepoolignore names the file",
  "not-source": "the file belongs to git or to an installed package",
  large: "the file is larger than 1 MB",
  binary: "the file is not text",
  unreadable: "the file cannot be read",
};

export interface GuardOptions {
  /** Absolute path of the workspace folder. */
  root: string;
  /** Absolute paths of the workspace's other folders; nothing in them is read, even where they lie inside of `root`. */
  otherRoots?: readonly string[];
  /** False: no file is read at all. */
  trusted?: boolean;
}

export interface AllowedFile {
  text: string;
  /** Last change, milliseconds since 1970. */
  changedMs: number;
}

export type Guarded = { kind: "allowed"; file: AllowedFile } | { kind: "refused"; reason: Refusal };

/** One workspace folder. Paths are relative to it, with forward slashes. Rules that change on disk hold after a second. */
export class ContextGuard {
  readonly #options: GuardOptions;
  readonly #secrets = new SecretWatch();
  #opened: Promise<{ root: string; rules: IgnoreRules; others: string[] }> | undefined;

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  /** The file's text, or why it must not be read. Never throws. */
  async read(path: string): Promise<Guarded> {
    try {
      const reason = await this.#refusalOfPath(path);
      return reason ? refused(reason) : await this.#readChecked(path);
    } catch {
      return refused("unreadable");
    }
  }

  /**
   * Why no completion may be asked for in the open file, whose text is in the editor and may never have been saved;
   * undefined when nothing speaks against it. An untrusted workspace and a large file do not: the user opened the file.
   */
  async refusalOfOpenFile(
    path: string,
    text: string,
    offset: number,
  ): Promise<Refusal | undefined> {
    // The start moves in large steps, so that typing changes little of what is searched.
    const start = Math.floor(Math.max(0, offset - SEARCHED_AROUND) / SEARCHED_STEP) * SEARCHED_STEP;
    const before = text.slice(start, offset);
    const after = text.slice(offset, offset + SEARCHED_AROUND);
    return (
      (await this.#refusalOfName(path)) ??
      (await this.#refusalOfTarget(path)) ??
      (this.#secrets.hasSecret(before, after) ? "secret-text" : undefined)
    );
  }

  /** Why an editor's unsaved text must not get into the prompts of other files; undefined when nothing speaks against it. */
  async refusalOfUnsaved(path: string, text: string): Promise<Refusal | undefined> {
    if (Buffer.byteLength(text) > LARGEST_FILE_BYTES) return "large";
    if (text.includes("\0")) return "binary";
    const { root } = await this.#open();
    const target = await realpath(join(root, path)).catch(() => root);
    if (!isInside(target, root)) return "outside";
    return (
      (await this.#refusalOfPath(path)) ??
      (await this.#refusalOfTarget(path)) ??
      (secretIn(text) ? "secret-text" : undefined)
    );
  }

  /** Why nothing in a folder is read; undefined when nothing speaks against it. */
  refusalOfFolder(path: string): Promise<Refusal | undefined> {
    return this.#refusalOfPath(`${path}/`);
  }

  /** Every file that may be read as far as its name tells, sorted; empty in an untrusted workspace. */
  async list(): Promise<string[]> {
    if (this.#options.trusted === false) return [];
    const found: string[] = [];
    const folders = [""];
    // Grows while it is read, so that the nearest folders come first.
    for (const folder of folders) {
      if (found.length >= MOST_FILES) break;
      const entries = await readdir(join(this.#options.root, folder), {
        withFileTypes: true,
      }).catch(() => []);
      for (const entry of entries) {
        const path = folder + entry.name;
        // What a symbolic link leads to is either in the list by its own name or lies outside.
        if (entry.isDirectory()) {
          if (!(await this.refusalOfFolder(path))) folders.push(`${path}/`);
        } else if (entry.isFile() && !(await this.#refusalOfName(path))) found.push(path);
      }
    }
    return found.slice(0, MOST_FILES).sort();
  }

  async #refusalOfPath(path: string): Promise<Refusal | undefined> {
    if (this.#options.trusted === false) return "untrusted";
    const reason = await this.#refusalOfName(path);
    if (reason) return reason;
    return path.split("/").some((part) => NOT_SOURCES.has(part)) ? "not-source" : undefined;
  }

  async #refusalOfName(path: string): Promise<Refusal | undefined> {
    if (hasSecretName(path)) return "secret-name";
    const { root, rules, others } = await this.#open();
    const file = resolve(root, path);
    if (!isInside(file, root)) return "outside";
    if (others.some((other) => isInside(file, other))) return "other-root";
    const ignored = await rules.ignoring(path);
    if (ignored) return ignored === "git" ? "git-ignored" : "tidepool-ignored";
    return undefined;
  }

  /** What a symbolic link leads to; a link out of the folder was opened by the user and is judged by its name alone. */
  async #refusalOfTarget(path: string): Promise<Refusal | undefined> {
    const { root } = await this.#open();
    const target = await realpath(join(root, path)).catch(() => undefined);
    if (target === undefined || target === join(root, path)) return undefined;
    if (!isInside(target, root)) return hasSecretName(target) ? "secret-name" : undefined;
    return this.#refusalOfName(relative(root, target).split(sep).join("/"));
  }

  async #readChecked(path: string): Promise<Guarded> {
    const { root } = await this.#open();
    const target = await realpath(join(root, path));
    if (!isInside(target, root)) return refused("outside");
    const inside = relative(root, target).split(sep).join("/");
    // The name that a symbolic link gives a file does not take away what the file's own name says.
    const reason = inside === path ? undefined : await this.#refusalOfPath(inside);
    if (reason) return refused(reason);
    const found = await stat(target);
    const { size, mtimeMs } = found;
    if (!found.isFile()) return refused("unreadable");
    if (size > LARGEST_FILE_BYTES) return refused("large");
    const bytes = await readFile(target);
    if (bytes.includes(0)) return refused("binary");
    const text = bytes.toString("utf8");
    if (secretIn(text)) return refused("secret-text");
    return { kind: "allowed", file: { text, changedMs: mtimeMs } };
  }

  #open() {
    this.#opened ??= (async () => {
      const real = (path: string) => realpath(path).catch(() => resolve(path));
      const root = await real(this.#options.root);
      const others = await Promise.all((this.#options.otherRoots ?? []).map(real));
      // A folder around this one is another root too, and everything here lies in it.
      const nested = others.filter((other) => other !== root && isInside(other, root));
      return { root, rules: new IgnoreRules(root), others: nested };
    })();
    return this.#opened;
  }
}

function refused(reason: Refusal): Guarded {
  return { kind: "refused", reason };
}

function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}
