// The thread that indexes one workspace folder and answers from the index.
import { parentPort, workerData } from "node:worker_threads";
import { assertNever } from "../base/assertNever.ts";
import { errorText } from "../base/errorText.ts";
import { LiveIndex } from "./buildIndex.ts";
import type { ContextWorkerData, FromContext, ToContext } from "./contextMessages.ts";
import { retrieveLive } from "./liveRetrieval.ts";
import { RecentPlaces } from "./recentPlaces.ts";
import { relatedTexts } from "./relatedFiles.ts";

/** Files change in bursts: a checkout touches thousands. Milliseconds. */
const SETTLE_MS = 300;

class ContextThread {
  readonly #live: LiveIndex;
  readonly #send: (message: FromContext) => void;
  readonly #recent = new RecentPlaces();
  readonly #changed = new Set<string>();
  #work: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(data: ContextWorkerData, send: (message: FromContext) => void) {
    this.#send = send;
    this.#live = new LiveIndex(data);
    this.#enqueue(() => this.#refresh());
  }

  receive(message: ToContext): void {
    switch (message.kind) {
      case "retrieve":
        // Not queued behind the indexing: what is known so far is better than nothing.
        void this.#answer(message);
        break;
      case "relate":
        void this.#relate(message);
        break;
      case "changed":
        for (const path of message.paths) this.#changed.add(path);
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#enqueue(() => this.#follow()), SETTLE_MS);
        break;
      case "edited":
        this.#enqueue(() => this.#live.edit(message.path, message.text));
        break;
      case "visited":
        this.#recent.note(message.place);
        break;
      default:
        assertNever(message);
    }
  }

  async #answer(question: Extract<ToContext, { kind: "retrieve" }>): Promise<void> {
    const { id, cursor, budgetTokens } = question;
    try {
      const { places } = this.#recent;
      const retrieval = await retrieveLive(this.#live, cursor, budgetTokens, places);
      this.#send({ kind: "retrieved", id, retrieval });
    } catch (error) {
      this.#send({ kind: "failed", id, message: errorText(error) });
    }
  }

  async #relate({ id, path }: Extract<ToContext, { kind: "relate" }>): Promise<void> {
    try {
      const texts = await relatedTexts(this.#live.index.files.keys(), path, (other) =>
        this.#live.textOf(other),
      );
      this.#send({ kind: "related", id, texts });
    } catch (error) {
      this.#send({ kind: "failed", id, message: errorText(error) });
    }
  }

  /** One after the other; a failure is told and leaves the index as it was. */
  #enqueue(work: () => Promise<void>): void {
    this.#work = this.#work
      .then(work)
      .catch((error: unknown) => this.#send({ kind: "failed", message: errorText(error) }));
  }

  async #refresh(): Promise<void> {
    const started = performance.now();
    await this.#live.refresh();
    const files = this.#live.index.files.size;
    this.#send({ kind: "indexed", files, ms: performance.now() - started });
  }

  async #follow(): Promise<void> {
    const paths = [...this.#changed];
    this.#changed.clear();
    await this.#live.follow(paths);
  }
}

const port = parentPort;
if (port) {
  const thread = new ContextThread(workerData as ContextWorkerData, (message) =>
    port.postMessage(message),
  );
  port.on("message", (message: ToContext) => thread.receive(message));
}
