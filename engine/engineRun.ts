import { EngineError } from "./base/errors.ts";
import { Engine, type EngineParts, type GenerationInput } from "./engine.ts";
import type { GenerationResult } from "./scheduler/request.ts";

/** A greedy generation of `maxTokens` tokens with nothing else asked for. */
export function greedyInput(prompt: GenerationInput["prompt"], maxTokens: number): GenerationInput {
  return {
    prompt,
    maxTokens,
    sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
    stop: [],
    priority: "completion",
    nTop: 0,
  };
}

export interface Finished {
  result: GenerationResult;
  text: string;
  nTokens: number;
  /** Since the request was submitted. */
  ms: number;
}

type Outcome = { result: GenerationResult } | { error: EngineError };

/** An engine in this thread that does one request after the other. */
export class EngineRun {
  private readonly engine: Engine;
  private readonly outcomes: Outcome[] = [];
  private nTokens = 0;
  private text = "";
  private nextId = 1;

  constructor(parts: EngineParts) {
    this.engine = new Engine(parts, (_, event) => {
      if (event.type !== "error") this.text += event.text;
      if (event.type === "delta") this.nTokens += event.tokens.length;
      else
        this.outcomes.push(
          event.type === "done"
            ? { result: event.result }
            : { error: new EngineError(event.code, event.message) },
        );
    });
  }

  /** Runs a request to its end. Throws the request's error. */
  run(input: GenerationInput): Finished {
    this.nTokens = 0;
    this.text = "";
    const startedAt = performance.now();
    this.engine.submit(this.nextId++, input);
    while (this.outcomes.length === 0 && this.engine.step());
    const ms = performance.now() - startedAt;
    const outcome = this.outcomes.pop();
    if (outcome === undefined)
      throw new EngineError("internal", "expected the request to end, found the engine idle");
    if ("error" in outcome) throw outcome.error;
    return { result: outcome.result, text: this.text, nTokens: this.nTokens, ms };
  }
}

/** `parts` with an end token that no token is: every answer has as many tokens as were asked for. */
export function withoutEnd(parts: EngineParts): EngineParts {
  return { ...parts, fim: { ...parts.fim, ends: new Set() } };
}
