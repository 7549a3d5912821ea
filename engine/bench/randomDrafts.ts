/**
 * What drafts save on a GPU, with random weights of Coder-V2-Lite's shape: what a step of several tokens takes, and how
 * fast known source text is written when its copies are drafted. Says nothing about how often a trained model copies.
 */
import { Backend } from "../backend/backend.ts";
import type { KvCacheFormat, RandomTypes } from "../backend/params.ts";
import { EngineError } from "../base/errors.ts";
import type { FusedModel } from "../model/fusedModel.ts";
import type { MlaMoeConfig } from "../model/mlaMoeConfig.ts";
import type { GenerationEvent, GenerationResult } from "../scheduler/request.ts";
import { Scheduler } from "../scheduler/scheduler.ts";
import { editText, placeText, type TextSource } from "./draftTexts.ts";
import { KnownText } from "./knownText.ts";
import { summarize } from "./percentile.ts";
import { LITE_CONFIG, randomModel, residentSequence } from "./randomLite.ts";
import { formatTable } from "./table.ts";

export interface RandomDraftsSizes {
  /** Cached tokens that steps are measured behind, drafts that they have, and how many of each are. */
  depths: readonly number[];
  drafts: readonly number[];
  steps: number;
  /** Texts of each kind, tokens of source text before them, and most tokens that are written. */
  texts: number;
  prompt: number;
  edit: number;
  completion: number;
}

export const DRAFTS_SIZES: RandomDraftsSizes = {
  ...{ depths: [1000, 8192, 32_768], drafts: [0, 1, 2, 3, 4, 5, 6, 7], steps: 32 },
  ...{ texts: 8, prompt: 1000, edit: 256, completion: 96 },
};

export interface DraftStep {
  depth: number;
  /** Guesses behind the token that is sure. */
  drafts: number;
  n: number;
  p50Ms: number;
  p95Ms: number;
  /** In steps without a draft, of the medians. */
  cost: number;
  /** With so probable guesses, each on its own, the step gives as many tokens a second as steps of one; null: with none. */
  breakEven: number | null;
}

export interface DraftReplay {
  name: string;
  texts: number;
  tokens: number;
  /** Tokens a second without drafts and with them, and how many times as many. */
  offPerS: number;
  onPerS: number;
  ratio: number;
  drafted: number;
  accepted: number;
  /** Choices of the model itself, which do not count for the text, and how many are the same with drafts. */
  choices: number;
  equalChoices: number;
}

export interface RandomDraftsReport {
  bench: "drafts";
  version: string;
  types: RandomTypes;
  kvCache: KvCacheFormat;
  device: string;
  steps: DraftStep[];
  replays: DraftReplay[];
}

export interface RandomDraftsOptions {
  version: string;
  types: RandomTypes;
  /** bf16 when missing. */
  kvCache?: KvCacheFormat;
  config?: MlaMoeConfig;
  sizes?: RandomDraftsSizes;
  /** The tokenizer's tokens must be the model's: its vocabulary may be larger. */
  texts: TextSource;
}

/** Measures on the GPU. Throws `device` where there is none, `out_of_memory` where the model does not fit. */
export function randomDraftsBench(options: RandomDraftsOptions): RandomDraftsReport {
  const { version, types, kvCache = "bf16", config = LITE_CONFIG, texts } = options;
  const sizes = options.sizes ?? DRAFTS_SIZES;
  const backend = Backend.open({ device: "cuda" });
  const longest = Math.max(...sizes.depths, 2 * sizes.prompt + sizes.edit);
  const contextLength = longest + sizes.steps + 256;
  const model = randomModel(backend, config, types, { contextLength, kvCache });
  backend.fusedModels.fillCache(model.handle, model.kv.pool.nBlocks * 64, 2);
  const steps = sizes.depths.flatMap((depth) => measureSteps(model, depth, sizes));
  const replays = replaysOf(texts, sizes).map((replay) => measureReplay(model, texts, replay));
  const device = backend.describe();
  model.close();
  backend.close();
  return { bench: "drafts", version, types, kvCache, device, steps, replays };
}

/** Steps of one token and drafts (first none) behind `depth` cached tokens, the choice of each row brought to the host. */
function measureSteps(
  model: FusedModel,
  depth: number,
  { drafts, steps }: RandomDraftsSizes,
): DraftStep[] {
  const sequence = residentSequence(model.kv, depth, model.maxStepDrafts + 1);
  let oneMs = 0;
  const out = drafts.map((nDrafts) => {
    const tokens = Array.from({ length: 1 + nDrafts }, (_unused, i) => (i * 7) % 251);
    const step = () => {
      const startedAt = performance.now();
      model.forward([{ sequence, tokens, wantsLogits: true, nDrafts }]).greedy();
      return performance.now() - startedAt;
    };
    step();
    const { n, p50Ms, p95Ms } = summarize(Array.from({ length: steps }, step));
    if (nDrafts === 0) oneMs = p50Ms;
    const cost = p50Ms / oneMs;
    return { depth, drafts: nDrafts, n, p50Ms, p95Ms, cost, breakEven: breakEven(nDrafts, cost) };
  });
  model.kv.release(sequence);
  return out;
}

/** The chance a of each guess with which 1 + a + … + a^n is `cost`; null when even right ones do not pay. */
export function breakEven(nDrafts: number, cost: number): number | null {
  if (cost > nDrafts + 1) return null;
  const tokens = (chance: number) =>
    Array.from({ length: nDrafts }, (_, i) => chance ** (i + 1)).reduce((sum, p) => sum + p, 1);
  let [low, high] = [0, 1];
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (tokens(middle) < cost) low = middle;
    else high = middle;
  }
  return high;
}

interface Replay {
  name: string;
  texts: { prompt: number[]; answer: number[] }[];
}

function replaysOf(from: TextSource, sizes: RandomDraftsSizes): Replay[] {
  const { tokenizer } = from;
  const each = (textOf: (index: number) => { prompt: string; answer: string }, most: number) =>
    Array.from({ length: sizes.texts }, (_, i) => {
      const { prompt, answer } = textOf(i);
      return {
        prompt: tokenizer.encode(prompt),
        answer: tokenizer.encode(answer).slice(0, most),
      };
    });
  const completion = (index: number) => {
    const { prefix, answer, suffix } = placeText(from, sizes.prompt, sizes.completion, index);
    return { prompt: `${suffix}\n${prefix}`, answer };
  };
  return [
    {
      name: "edit: lines again, a name changed",
      texts: each((i) => editText(from, sizes.prompt, i), sizes.edit),
    },
    { name: "completion", texts: each(completion, sizes.completion) },
  ];
}

/** Each text without drafts and with them, its prompt read beforehand, what steps cost learnt on the way. */
function measureReplay(
  model: FusedModel,
  { tokenizer }: TextSource,
  { name, texts }: Replay,
): DraftReplay {
  const ms = { off: 0, on: 0 };
  const sum = { tokens: 0, drafted: 0, accepted: 0, choices: 0, equalChoices: 0 };
  const writers = {
    off: new Writer(model, tokenizer, false),
    on: new Writer(model, tokenizer, true),
  };
  for (const { prompt, answer } of texts) {
    writers.off.write(prompt, answer, 1);
    const off = writers.off.write(prompt, answer, answer.length);
    const on = writers.on.write(prompt, answer, answer.length);
    ms.off += off.result.predictedMs;
    ms.on += on.result.predictedMs;
    sum.tokens += answer.length - 1;
    sum.drafted += on.result.drafts.drafted;
    sum.accepted += on.result.drafts.accepted;
    sum.choices += off.choices.size;
    for (const [position, id] of off.choices)
      sum.equalChoices += Number(on.choices.get(position) === id);
  }
  const [offPerS, onPerS] = [(1000 * sum.tokens) / ms.off, (1000 * sum.tokens) / ms.on];
  return { name, texts: texts.length, ...sum, offPerS, onPerS, ratio: onPerS / offPerS };
}

interface Written {
  result: GenerationResult;
  choices: ReadonlyMap<number, number>;
}

/** A scheduler that writes known texts, one after the other. */
class Writer {
  private readonly known: KnownText;
  private readonly scheduler: Scheduler;
  private events: GenerationEvent[] = [];
  private nextId = 1;

  constructor(model: FusedModel, tokenizer: TextSource["tokenizer"], drafts: boolean) {
    this.known = new KnownText(model);
    this.scheduler = new Scheduler({
      ...{ model: this.known, tokenizer, drafts, ends: new Set<number>() },
      onEvent: (_, event) => this.events.push(event),
    });
  }

  /** The first `nTokens` tokens of `answer` behind `prompt`. */
  write(prompt: readonly number[], answer: readonly number[], nTokens: number): Written {
    this.events = [];
    this.known.tell([...prompt, ...answer]);
    this.scheduler.submit({
      ...{ id: this.nextId++, prompt, maxTokens: nTokens, stop: [], nTop: 0 },
      ...{ sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 }, priority: "completion" },
    });
    while (this.scheduler.step());
    const written = this.events.flatMap((event) => (event.type === "delta" ? event.tokens : []));
    const end = this.events.at(-1);
    if (end?.type !== "done" || written.some(({ id }, i) => id !== answer[i]))
      throw new EngineError("internal", "expected the known text, found another");
    return { result: end.result, choices: new Map(this.known.choices) };
  }
}

/** The report as tables, ending in a line break. */
export function formatRandomDrafts(report: RandomDraftsReport): string {
  const { version, types, kvCache, device, steps, replays } = report;
  const stepTable = formatTable(
    ["a step of 1 token and", "n", "p50 ms", "p95 ms", "steps of 1", "pays from"],
    steps.map(({ depth, drafts, n, p50Ms, p95Ms, cost, breakEven: chance }) => [
      `${drafts} drafts after ${depth}`,
      ...[String(n), p50Ms.toFixed(3), p95Ms.toFixed(3), cost.toFixed(2)],
      drafts === 0 ? "" : chance === null ? "never" : `${(100 * chance).toFixed(0)} % right`,
    ]),
  );
  const replayTable = formatTable(
    ["known text", "tokens", "off tok/s", "on tok/s", "ratio", "drafts right", "equal choices"],
    replays.map((r) => [
      ...[r.name, String(r.tokens), r.offPerS.toFixed(0), r.onPerS.toFixed(0), r.ratio.toFixed(2)],
      `${r.accepted} of ${r.drafted}`,
      `${r.equalChoices} of ${r.choices}`,
    ]),
  );
  const head = [
    `tidepool ${version} bench drafts: DeepSeek-Coder-V2-Lite's shape, random ${types} weights, ${kvCache} cache`,
    `device  ${device}`,
  ];
  return `${[...head, "", ...stepTable, "", ...replayTable].join("\n")}\n`;
}
