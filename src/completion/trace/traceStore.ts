// The last requests, for who asks why. Only the newest keep the code that they were about.
import type { CompletionTrace } from "./completionTrace.ts";
import { figuresOf, type TraceFigures } from "./traceFigures.ts";

const KEPT = 20;
const KEPT_WITH_CODE = 4;

interface Entry {
  document: string;
  outcome: CompletionTrace["outcome"];
  /** Undefined once the request is old. */
  trace: CompletionTrace | undefined;
  figures: () => TraceFigures;
}

/** A request that was found. */
export interface FoundTrace {
  /** Missing for an old request, of which only the figures are kept. */
  trace: CompletionTrace | undefined;
  figures: TraceFigures;
}

export class TraceStore {
  /** The newest first. */
  readonly #entries: Entry[] = [];

  /** Takes a request that has ended. */
  add(trace: CompletionTrace): void {
    const { outcome } = trace;
    const document = trace.asked?.document ?? "";
    this.#entries.unshift({ document, outcome, trace, figures: () => figuresOf(trace) });
    if (this.#entries.length > KEPT) this.#entries.pop();
    const aged = this.#entries[KEPT_WITH_CODE];
    if (aged?.trace === undefined) return;
    const figures = aged.figures();
    aged.trace = undefined;
    aged.figures = () => figures;
  }

  /** How many are kept. */
  get size(): number {
    return this.#entries.length;
  }

  /**
   * The newest request in a document, else the newest of all. One that the next key made obsolete says little, so it is
   * found only when there is no other with its code.
   */
  latest(document: string): FoundTrace | undefined {
    const own = this.#entries.filter((entry) => entry.document === document);
    const entries = own.length > 0 ? own : this.#entries;
    const telling = entries.find(
      ({ outcome, trace }) =>
        trace !== undefined && !(outcome?.kind === "nothing" && outcome.reason === "superseded"),
    );
    const found = telling ?? entries[0];
    return found && { trace: found.trace, figures: found.figures() };
  }

  /** Figures of all requests, the newest first. */
  all(): TraceFigures[] {
    return this.#entries.map(({ figures }) => figures());
  }

  clear(): void {
    this.#entries.length = 0;
  }
}
