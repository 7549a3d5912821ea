// The files around a session, as a completion there would copy from them.
import { ContextGuard } from "../context/guard/contextGuard.ts";
import { guardedTexts } from "../context/relatedFiles.ts";
import type { ReplaySession } from "./sessions.ts";

export class RelatedTexts {
  readonly #folders = new Map<string, { guard: ContextGuard; paths: Promise<string[]> }>();

  /** Texts of files that are like the session's. One that holds what is typed is a copy of its file, and left out. */
  async of({ folder, filename, typed }: ReplaySession): Promise<string[]> {
    const { guard, paths } = this.#folder(folder);
    const texts = await guardedTexts(await paths, filename, guard);
    return texts.filter((text) => !text.includes(typed));
  }

  #folder(root: string) {
    const known = this.#folders.get(root);
    if (known) return known;
    const guard = new ContextGuard({ root });
    const folder = { guard, paths: guard.list() };
    this.#folders.set(root, folder);
    return folder;
  }
}
