/** A folder of source files that a test fills and changes. */
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export class TempWorkspace {
  /** Absolute path; what must lie outside of the workspace has room beside it. */
  readonly root = join(mkdtempSync(join(tmpdir(), "tidepool-workspace-")), "project");
  /** Seconds; every write is later than the one before, however fast the test is. */
  #now = 1_000_000;

  constructor(files: Readonly<Record<string, string | Buffer>> = {}) {
    mkdirSync(this.root);
    for (const [path, content] of Object.entries(files)) this.write(path, content);
  }

  write(path: string, content: string | Buffer): void {
    const file = join(this.root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    this.#now++;
    utimesSync(file, this.#now, this.#now);
  }

  remove(path: string): void {
    rmSync(join(this.root, path), { recursive: true, force: true });
  }

  /** A folder beside the workspace for what a program keeps. */
  get storeFolder(): string {
    return join(dirname(this.root), "store");
  }

  clean(): void {
    rmSync(dirname(this.root), { recursive: true, force: true });
  }
}
