/** The index of one workspace folder as its user sees it: a thread does the work, so nothing here waits for a parse. */
import { Worker } from "node:worker_threads";
import { assertNever } from "../base/assertNever.ts";
import type { Answer, ContextWorkerData, FromContext, ToContext } from "./contextMessages.ts";
import type { RecentPlace } from "./recentPlaces.ts";
import type { ContextCursor, Retrieval } from "./snippet.ts";

/** A context that comes later than this is not waited for. */
const LONGEST_WAIT_MS = 150;
/** Nobody waits for related texts: they are there for the completions to come. */
const LONGEST_READ_MS = 10_000;

/** Every key moves the cursor; the thread need not hear of it while it stays near. */
const LINES_TOLD_ONCE = 4;

/** What a client tells whoever made it. */
export interface ContextListener {
  /** Indexing and failures, in words. */
  onNews(text: string): void;
  /** From now on the index knows the whole folder. */
  onIndexed(): void;
}

export class ContextClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();
  /** The place that the thread heard of last. */
  #told = { place: "", isEdited: false };
  #nextId = 1;
  #isClosed = false;

  /** Starts the thread. `script` is the bundle of contextWorker.ts. */
  constructor(script: string, options: Omit<ContextWorkerData, "role">, listener: ContextListener) {
    const workerData: ContextWorkerData = { role: "tidepool-context", ...options };
    this.#worker = new Worker(script, { workerData, argv: [] });
    this.#worker.unref();
    this.#worker.on("message", (message: FromContext) => this.#receive(message, listener));
    this.#worker.on("error", (error) => {
      listener.onNews(`the index of ${options.root} stopped: ${error.message}`);
      this.#end();
    });
    this.#worker.on("exit", () => this.#end());
  }

  /** The thread has ended, by itself or because it was told to. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** What the index knows so far; undefined when it takes longer than a completion can wait. */
  async retrieve(
    cursor: ContextCursor,
    budgetTokens: number,
    longestWaitMs = LONGEST_WAIT_MS,
  ): Promise<Retrieval | undefined> {
    const id = this.#nextId++;
    const answer = await this.#ask({ kind: "retrieve", id, cursor, budgetTokens }, longestWaitMs);
    return answer?.kind === "retrieved" ? answer.retrieval : undefined;
  }

  /** Texts of files that are like the one at `path`; none where the index knows none. */
  async related(path: string): Promise<readonly string[]> {
    const answer = await this.#ask({ kind: "relate", id: this.#nextId++, path }, LONGEST_READ_MS);
    return answer?.kind === "related" ? answer.texts : [];
  }

  /** Files that were made, changed or removed; `paths` are relative to the folder. */
  changed(paths: string[]): void {
    this.#post({ kind: "changed", paths });
  }

  /** The unsaved text of an editor. */
  edited(path: string, text: string): void {
    this.#post({ kind: "edited", path, text });
  }

  /** Where the user is now; told once for each few lines. */
  visited(place: RecentPlace): void {
    const { path, line, isEdited } = place;
    const told = { place: `${Math.floor(line / LINES_TOLD_ONCE)} ${path}`, isEdited };
    // A key edits and moves the cursor: that an edited place was visited too says nothing new.
    if (told.place === this.#told.place && (this.#told.isEdited || !isEdited)) return;
    this.#told = told;
    this.#post({ kind: "visited", place });
  }

  async close(): Promise<void> {
    this.#end();
    await this.#worker.terminate();
  }

  #ask(
    question: Extract<ToContext, { id: number }>,
    longestMs: number,
  ): Promise<Answer | undefined> {
    if (this.#isClosed) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#settle(question.id, undefined), longestMs);
      this.#waiting.set(question.id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.#post(question);
    });
  }

  #post(message: ToContext): void {
    if (!this.#isClosed) this.#worker.postMessage(message);
  }

  #receive(message: FromContext, listener: ContextListener): void {
    switch (message.kind) {
      case "retrieved":
      case "related":
        this.#settle(message.id, message);
        break;
      case "failed":
        listener.onNews(`no context: ${message.message}`);
        if (message.id !== undefined) this.#settle(message.id, undefined);
        break;
      case "indexed":
        listener.onNews(`indexed ${message.files} files in ${message.ms.toFixed(0)} ms`);
        listener.onIndexed();
        break;
      default:
        assertNever(message);
    }
  }

  #settle(id: number, answer: Answer | undefined): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(answer);
  }

  #end(): void {
    this.#isClosed = true;
    for (const id of [...this.#waiting.keys()]) this.#settle(id, undefined);
  }
}
