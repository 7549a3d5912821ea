// What git ignores, by the rules of gitignore(5), and what `.tidepoolignore` adds to that.
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative, resolve, sep } from "node:path";
import ignore, { type Ignore } from "ignore";

/** A file of rules is looked at again after so long. Milliseconds. */
const FRESH_MS = 1000;
/** Git tells letters apart unless the file system does not. */
const isCaseBlind = process.platform === "win32" || process.platform === "darwin";

interface RuleFile {
  rules: Ignore | undefined;
  changedMs: number;
  checkedMs: number;
}

/** One file of rules, and the folder that its patterns are relative to. */
interface Source {
  file: string;
  base: string;
}

export type IgnoredBy = "git" | "tidepoolignore";

export class IgnoreRules {
  readonly #root: string;
  /** The folder with `.git`; the workspace folder when there is none. */
  readonly #top: string;
  /** Weakest first. */
  readonly #global: readonly Source[];
  readonly #files = new Map<string, RuleFile>();

  /** `root`: absolute path of the workspace folder, with symbolic links resolved. */
  constructor(root: string) {
    this.#root = root;
    this.#top = topOf(root);
    const config = process.env["XDG_CONFIG_HOME"] ?? join(homedir(), ".config");
    const files = [join(config, "git", "ignore")];
    if (existsSync(join(this.#top, ".git"))) files.push(join(this.#top, ".git", "info", "exclude"));
    this.#global = files.map((file) => ({ file, base: this.#top }));
  }

  /** Which rules ignore `path`, relative to the workspace folder with forward slashes; a folder ends in a slash. */
  async ignoring(path: string): Promise<IgnoredBy | undefined> {
    if (await this.#isIgnored(path, this.#top, ".gitignore", this.#global)) return "git";
    if (await this.#isIgnored(path, this.#root, ".tidepoolignore", [])) return "tidepoolignore";
    return undefined;
  }

  /** Nothing inside an ignored folder can be taken back in, so the folders are asked first, from the top. */
  async #isIgnored(
    path: string,
    top: string,
    name: string,
    global: readonly Source[],
  ): Promise<boolean> {
    const whole = relative(top, join(this.#root, path)).split(sep).join("/");
    const parts = whole.split("/").filter(Boolean);
    const sources = [...global];
    for (const [i] of parts.entries()) {
      const base = join(top, ...parts.slice(0, i));
      sources.push({ file: join(base, name), base });
      const isFolder = i < parts.length - 1 || path.endsWith("/");
      const item = join(base, parts[i] ?? "") + (isFolder ? "/" : "");
      if (await this.#decides(item, sources)) return true;
    }
    return false;
  }

  /** The nearest file of rules that says anything about `item` decides. */
  async #decides(item: string, sources: readonly Source[]): Promise<boolean> {
    for (const { file, base } of sources.toReversed()) {
      const rules = await this.#read(file);
      if (!rules) continue;
      const inside = item.slice(base.endsWith(sep) ? base.length : base.length + 1);
      const { ignored, unignored } = rules.test(inside.split(sep).join("/"));
      if (ignored) return true;
      if (unignored) return false;
    }
    return false;
  }

  async #read(file: string): Promise<Ignore | undefined> {
    const known = this.#files.get(file);
    const now = Date.now();
    if (known && now - known.checkedMs < FRESH_MS) return known.rules;
    const changedMs = await stat(file).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    );
    if (known?.changedMs === changedMs) {
      known.checkedMs = now;
      return known.rules;
    }
    const text = changedMs === 0 ? "" : await readFile(file, "utf8").catch(() => "");
    const rules = text === "" ? undefined : ignore({ ignorecase: isCaseBlind }).add(text);
    this.#files.set(file, { rules, changedMs, checkedMs: now });
    return rules;
  }
}

function topOf(root: string): string {
  for (let folder = root; ; folder = dirname(folder)) {
    if (existsSync(join(folder, ".git"))) return folder;
    if (folder === dirname(folder)) return resolve(root);
  }
}
