// The syntax around cursors as an editor asks for it: a thread parses, and an answer that comes late is none.
import { Worker } from "node:worker_threads";
import type { Disposable } from "../base/lifecycle.ts";
import type { CursorScope, CursorSyntax, TextRange } from "../completion/cursorSyntax.ts";
import type { CursorSite } from "../completion/documentSnapshot.ts";
import { languageOf } from "../context/syntax.ts";
import type { FromSyntax, ToSyntax } from "./syntaxMessages.ts";
import { syntaxWindow } from "./syntaxWindow.ts";

/** The first question of a language waits for its grammar; later ones take a few milliseconds. */
const LONGEST_WAIT_MS = 60;

export class SyntaxClient implements CursorSyntax, Disposable {
  readonly #script: string;
  readonly #onNews: (text: string) => void;
  readonly #waiting = new Map<number, (answer: FromSyntax | undefined) => void>();
  #worker: Worker | undefined;
  #isClosed = false;
  #nextId = 1;

  /** `script` is the bundle of syntaxWorker.ts, started with the first question; `onNews` hears of failures. */
  constructor(script: string, onNews: (text: string) => void) {
    this.#script = script;
    this.#onNews = onNews;
  }

  async scopeAt(site: CursorSite): Promise<CursorScope | undefined> {
    if (!languageOf(site.filename)) return undefined;
    const window = syntaxWindow(site);
    const answer = await this.#ask((id) => ({ kind: "scope", id, window }));
    return answer?.kind === "scope" ? answer.scope : undefined;
  }

  async literalsIn(site: CursorSite, text: string): Promise<readonly TextRange[] | undefined> {
    const { filename } = site;
    if (!languageOf(filename)) return undefined;
    const { head } = syntaxWindow(site);
    const answer = await this.#ask((id) => ({ kind: "literals", id, filename, head, text }));
    return answer?.kind === "literals" ? answer.literals : undefined;
  }

  dispose(): void {
    this.#end();
    void this.#worker?.terminate();
  }

  #ask(message: (id: number) => ToSyntax): Promise<FromSyntax | undefined> {
    if (this.#isClosed) return Promise.resolve(undefined);
    const id = this.#nextId++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#settle(id, undefined), LONGEST_WAIT_MS);
      this.#waiting.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.#worker ??= this.#start();
      this.#worker.postMessage(message(id));
    });
  }

  #start(): Worker {
    const worker = new Worker(this.#script, { argv: [] });
    worker.unref();
    worker.on("message", (answer: FromSyntax) => {
      if (answer.kind === "failed") this.#onNews(`no syntax: ${answer.message}`);
      this.#settle(answer.id, answer);
    });
    worker.on("error", (error) => {
      this.#onNews(`the thread that parses stopped: ${error.message}`);
      this.#end();
    });
    worker.on("exit", () => this.#end());
    return worker;
  }

  #settle(id: number, answer: FromSyntax | undefined): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(answer);
  }

  #end(): void {
    this.#isClosed = true;
    for (const id of [...this.#waiting.keys()]) this.#settle(id, undefined);
  }
}
