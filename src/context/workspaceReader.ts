// The only way to a file for the prompt: inside the workspace, not ignored, no secret, no binary, not large.
import { readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, relative, sep } from "node:path";
import ignore, { type Ignore } from "ignore";

const LARGEST_BYTES = 1024 * 1024;

/** Names that hold keys and passwords; they never reach a prompt, ignored by git or not. */
const SECRET =
  /^(?:\.env(?:\..*)?|\.?(?:npmrc|netrc|pypirc|pgpass)|id_(?:rsa|dsa|ecdsa|ed25519).*|.*\.(?:pem|key|p12|pfx|jks|keystore)|credentials(?:\..*)?|secrets?\.\w+)$/i;

export interface WorkspaceFile {
  text: string;
  /** Last change, milliseconds since 1970. */
  changedMs: number;
}

export class WorkspaceReader {
  readonly #root: string;
  readonly #ignores = new Map<string, Promise<Ignore>>();

  /** `root`: absolute path of the workspace folder. */
  constructor(root: string) {
    this.#root = root;
  }

  /** The file at `path`, relative with forward slashes; undefined when it is missing or must not be read. */
  async read(path: string): Promise<WorkspaceFile | undefined> {
    if (SECRET.test(basename(path)) || path.split("/").includes(".git")) return undefined;
    try {
      const root = await realpath(this.#root);
      const target = await realpath(join(root, path));
      if (!target.startsWith(root.endsWith(sep) ? root : root + sep)) return undefined;
      const inside = relative(root, target).split(sep).join("/");
      if (
        SECRET.test(basename(inside)) ||
        (await this.#isIgnored(path)) ||
        (await this.#isIgnored(inside))
      )
        return undefined;
      const { size, mtimeMs } = await stat(target);
      if (size > LARGEST_BYTES) return undefined;
      const bytes = await readFile(target);
      return bytes.includes(0) ? undefined : { text: bytes.toString("utf8"), changedMs: mtimeMs };
    } catch {
      // Missing, a folder, or not readable by this user: there is nothing to show the model.
      return undefined;
    }
  }

  async #isIgnored(path: string): Promise<boolean> {
    for (let folder = dirname(path); ; folder = dirname(folder)) {
      const rules = await this.#rulesOf(folder);
      if (rules.ignores(folder === "." ? path : relative(folder, path).split(sep).join("/")))
        return true;
      if (folder === ".") return false;
    }
  }

  #rulesOf(folder: string): Promise<Ignore> {
    const known = this.#ignores.get(folder);
    if (known) return known;
    const rules = readFile(join(this.#root, folder, ".gitignore"), "utf8")
      .catch(() => "")
      .then((text) => ignore().add(text));
    this.#ignores.set(folder, rules);
    return rules;
  }
}
