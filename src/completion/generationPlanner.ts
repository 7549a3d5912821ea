// What a generation is asked with: the parts of the prompt, and where it must stop by the grammar.
import { withinTime } from "../base/async.ts";
import { modeOf } from "./completionMode.ts";
import type { CompletionQuery } from "./completionQuery.ts";
import type { CursorScope, CursorSyntax } from "./cursorSyntax.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import type { GenerationPlan } from "./generation.ts";
import { PromptMemory, type PromptParts } from "./promptMemory.ts";
import { ASKED_SURE, leastSure } from "./surePart.ts";
import type { CompletionTrace } from "./trace/completionTrace.ts";

/** Milliseconds that the grammar is waited for, beside the debounce and the other files. */
const LONGEST_SCOPE_MS = 30;

/** What is told of a place beside the query. */
export interface PlanOptions {
  /** Begun before the debounce, so that it costs no time of its own. */
  scope: Promise<CursorScope | undefined>;
  priority: GenerationPlan["priority"];
  trace?: CompletionTrace;
}

export class GenerationPlanner {
  readonly #syntax: CursorSyntax | undefined;
  readonly #memory = new PromptMemory();

  /** Without `syntax`, rules on the text alone decide. */
  constructor(syntax: CursorSyntax | undefined) {
    this.#syntax = syntax;
  }

  /** What the grammar says of a place, when it says so in time. */
  scopeAt(site: CursorSite): Promise<CursorScope | undefined> {
    return this.#syntax
      ? withinTime(this.#syntax.scopeAt(site), LONGEST_SCOPE_MS)
      : Promise.resolve(undefined);
  }

  /** Suffix and other files; the same as before while the user types at one place. */
  partsFor(query: CompletionQuery, site: CursorSite): Promise<PromptParts> {
    return this.#memory.partsFor(site, query.context);
  }

  /** The generation that answers `query` at `site`, which may lie behind the query's own place. */
  async plan(
    query: CompletionQuery,
    site: CursorSite,
    { scope: scopeComes, priority, trace }: PlanOptions,
  ): Promise<GenerationPlan> {
    const { maxTokens, multiline, sure } = query.settings;
    const since = trace?.ms ?? 0;
    const parts = await this.partsFor(query, site);
    trace?.stage("context", since, `${parts.extra.length} parts of other files`);
    const scope = await scopeComes;
    const mode = modeOf(site, multiline, scope);
    const lines = mode === "single" ? "one line" : "several lines";
    trace?.stage("syntax", since, `${lines}${scope ? `, in ${scope.within}` : ""}`);
    const syntax = this.#syntax;
    const least = query.trigger === "command" ? ASKED_SURE : leastSure(0, sure);
    return { site, mode, parts, maxTokens, stopEarly: true, priority, scope, syntax, sure: least };
  }

  /** Other files are asked for anew by the next plan, where those of the last would have served. */
  forget(): void {
    this.#memory.forget();
  }
}
