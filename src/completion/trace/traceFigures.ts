// What may be told of a request to anybody: lengths, times, probabilities and names of ours. Reports are made of nothing
// else, so no code can get into one.
import type { GenerationRecord } from "../generation.ts";
import type {
  CompletionTrace,
  Filtering,
  Stage,
  TextSource,
  TraceAsked,
} from "./completionTrace.ts";
import type { Explanation } from "./explanation.ts";

/** One filter's work on a text; lengths in UTF-16 units. */
interface StepFigures {
  name: string;
  before: number;
  after: number;
  /** Whether it left nothing to see. */
  emptied: boolean;
}

export interface FilteringFigures {
  source: TextSource;
  length: number;
  /** Only those that changed the text. */
  steps: StepFigures[];
  nSteps: number;
}

export interface EngineFigures {
  promptTokens: number | undefined;
  cachedTokens: number | undefined;
  queueMs: number | undefined;
  prefillMs: number | undefined;
  decodeMs: number | undefined;
  /** From the request to its end, with the way to the engine and back. */
  totalMs: number | undefined;
  ending: NonNullable<GenerationRecord["ending"]> | "running";
  /** Whether it was asked for by an earlier request, or ahead of time. */
  joined: boolean;
  /** Lengths in UTF-16 units. */
  prefix: number;
  suffix: number;
  extra: number[];
  mostTokens: number | undefined;
  /** Probability of each token under the model, and of all up to it. */
  tokens: { length: number; probability: number; together: number }[];
}

export interface TraceFigures {
  /** Milliseconds since 1970. */
  at: number;
  totalMs: number;
  asked: Omit<TraceAsked, "document"> | undefined;
  settings: CompletionTrace["settings"];
  sure: number;
  /** Characters before and after the cursor that were looked at, and on its line. */
  around: { before: number; after: number; lineBefore: number; lineAfter: number } | undefined;
  /** Without what the engine or the machine said, which may hold anything. */
  outcome: Explanation;
  stages: readonly Stage[];
  engine: EngineFigures | undefined;
  filterings: FilteringFigures[];
}

export function figuresOf(trace: CompletionTrace): TraceFigures {
  const { at, totalMs, settings, sure, site, stages, generation, filterings } = trace;
  return {
    at,
    totalMs,
    asked: trace.asked && withoutPlace(trace.asked),
    settings,
    sure,
    around: site && {
      before: site.prefix.length,
      after: site.suffix.length,
      lineBefore: site.lineBefore.length,
      lineAfter: site.lineAfter.length,
    },
    outcome: withoutDetail(trace.outcome ?? { kind: "nothing", reason: "superseded" }),
    stages,
    engine: generation && engineFigures(generation, trace.started),
    filterings: (["model", "copy"] as const).flatMap((source) => {
      const filtering = filterings[source];
      return filtering ? [filteringFigures(source, filtering)] : [];
    }),
  };
}

function withoutPlace({ document: _, ...asked }: TraceAsked): Omit<TraceAsked, "document"> {
  return asked;
}

function withoutDetail(outcome: Explanation): Explanation {
  if (outcome.kind === "nothing") return { kind: "nothing", reason: outcome.reason };
  if (outcome.kind === "defect") return { kind: "defect", message: "see the log" };
  return outcome;
}

function engineFigures(record: GenerationRecord, traceStarted: number): EngineFigures {
  const { request, prompt, startedAt, firstTokenAt, endedAt, ending, tokens } = record;
  let together = 0;
  return {
    promptTokens: prompt?.tokens,
    cachedTokens: prompt?.cached,
    queueMs: prompt?.queueMs,
    prefillMs: prompt?.promptMs,
    decodeMs: since(firstTokenAt, endedAt),
    totalMs: since(startedAt, endedAt),
    ending: ending ?? "running",
    joined: startedAt < traceStarted,
    prefix: request.input_prefix.length,
    suffix: request.input_suffix.length,
    extra: (request.input_extra ?? []).map(({ text }) => text.length),
    mostTokens: request.n_predict,
    tokens: tokens.map(({ text, logProb }) => {
      together += logProb;
      return {
        length: text.length,
        probability: Math.exp(logProb),
        together: Math.exp(together),
      };
    }),
  };
}

function since(from: number | undefined, to: number | undefined): number | undefined {
  return from === undefined || to === undefined ? undefined : to - from;
}

function filteringFigures(source: TextSource, { text, steps }: Filtering): FilteringFigures {
  const changed = steps.filter(({ before, after }) => before !== after);
  return {
    source,
    length: text.length,
    nSteps: steps.length,
    steps: changed.map(({ name, before, after }) => ({
      name,
      before: before.length,
      after: after.length,
      emptied: !/\S/.test(after),
    })),
  };
}
