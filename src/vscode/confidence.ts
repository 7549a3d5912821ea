// How sure a suggestion must be in this editor: the user's mode, and what was learned from what this user takes.
import * as vscode from "vscode";
import { Learned, startOf, type Threshold } from "../completion/confidence/learned.ts";
import type { Mode } from "../completion/confidence/modes.ts";
import { Offers } from "../completion/confidence/offers.ts";
import type { CursorSite } from "../completion/documentSnapshot.ts";
import { confidenceSettings } from "./config.ts";

const KEY = "tidepool.learned";

/** Run by the editor when a suggestion was taken whole; no command of the palette. */
const TAKEN = "tidepool.internal.taken";

/** The editor's storage is slow, so it is not written at every key. */
const SAVE_MS = 10_000;

export interface ModeThreshold extends Threshold {
  mode: Mode;
}

export class Confidence implements vscode.Disposable {
  readonly #kept: vscode.Memento;
  readonly #learned: Learned;
  readonly #offers: Offers;
  readonly #command: vscode.Disposable;
  #timer: NodeJS.Timeout | undefined;

  constructor(kept: vscode.Memento) {
    this.#kept = kept;
    this.#learned = new Learned(kept.get(KEY));
    this.#offers = new Offers((languageId, taken) => this.#settled(languageId, taken));
    this.#command = vscode.commands.registerCommand(TAKEN, (id: unknown) => {
      if (typeof id === "number") this.#offers.taken(id);
    });
  }

  thresholdFor(document: vscode.TextDocument): ModeThreshold {
    const { mode, learns } = confidenceSettings(document);
    if (!learns) return { mode, sure: startOf(mode), because: "learning is off" };
    return { mode, ...this.#learned.thresholdFor(mode, document.languageId, Date.now()) };
  }

  /**
   * Takes down what is on the screen at a place: a text with the document's line ends, or nothing. Gives the command that
   * the editor runs when the text was taken.
   */
  offered(
    site: CursorSite,
    text: string | undefined,
    languageId: string,
  ): vscode.Command | undefined {
    const now = performance.now();
    this.#offers.movedTo(site, now);
    if (text === undefined) {
      this.#offers.hidden(site);
      return undefined;
    }
    const id = this.#offers.shown(site, text.replaceAll("\r\n", "\n"), languageId, now);
    return { command: TAKEN, title: "", arguments: [id] };
  }

  /** Forgets what was learned, here and on disk. */
  async reset(): Promise<void> {
    this.#learned.reset();
    await this.#kept.update(KEY, undefined);
  }

  dispose(): void {
    this.#command.dispose();
    if (this.#timer) this.#save();
  }

  #settled(languageId: string, taken: number): void {
    if (!confidenceSettings().learns) return;
    this.#learned.count(languageId, taken, Date.now());
    this.#timer ??= setTimeout(() => this.#save(), SAVE_MS);
  }

  #save(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    void this.#kept.update(KEY, this.#learned.stored);
  }
}
