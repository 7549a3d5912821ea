/**
 * The load that an engine must stand, at full size on a GPU, with random weights of Coder-V2-Lite's shape:
 *
 *   node build/gpu-engine/main.cjs [--random-lite q4_k_m] [--requests 1000] [--prompt 131072] [--model FILE]
 *
 * Bundled by scripts/gpuEngine.mjs, so that a machine without the checkout's packages can run it.
 */
import { parseArgs } from "node:util";
import { Backend } from "../../engine/backend/backend.ts";
import { RANDOM_TYPES, type RandomTypes } from "../../engine/backend/params.ts";
import { LITE_CONFIG, residentSequence } from "../../engine/bench/randomLite.ts";
import { readGguf } from "../../engine/loader/gguf.ts";
import { FUSED_STEP, FusedModel } from "../../engine/model/fusedModel.ts";
import { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { cancelMany, type LoadedModel, streamBesidePrompt } from "./engineLoad.ts";

/**
 * The scheduler sizes a step to take 32 ms, learning from the steps before; a longer text is then seen to stutter only
 * when something goes wrong. Three times that leaves room for a step that it misjudges, and is what people still take
 * for immediate.
 */
const MOST_GAP_MS = 100;
const CANCEL = { together: 8, longestPrompt: 3000, steps: 30 };
const STREAM = { prompt: 1025, answer: 200 };

const { values } = parseArgs({
  options: {
    "random-lite": { type: "string", default: "q4_k_m" },
    requests: { type: "string", default: "1000" },
    prompt: { type: "string", default: "131072" },
    model: { type: "string", default: "engine/models/tidepool-mini.gguf" },
  },
});

function main(): void {
  const types = values["random-lite"];
  if (!isRandomTypes(types))
    throw new Error(`expected --random-lite ${RANDOM_TYPES.join("|")}, found ${types}`);
  const requests = wholeNumber("requests");
  const longPrompt = wholeNumber("prompt");
  const backend = Backend.open({ device: "cuda" });
  const contextLength = longPrompt + 4 * STREAM.prompt + 256;
  const model = FusedModel.random(backend, LITE_CONFIG, types, { contextLength });
  const loaded: LoadedModel = {
    model,
    tokenizer: new Tokenizer(readGguf(values.model)),
    freeBytes: () => backend.deviceMemory()?.freeBytes ?? 0,
  };
  print(`random ${types} weights of Coder-V2-Lite's shape on ${backend.describe()}`);
  warm(model);
  // Kernels and scratch memory that are loaded once take memory as well, so the first ones may leave less.
  const first = cancelMany(loaded, { requests: 100, ...CANCEL }, 1);
  const isOfMemory = (problem: string) => problem.includes("device memory");
  report(
    "100 cancelled requests",
    first.problems.filter((problem) => !isOfMemory(problem)),
  );
  const { problems, streamed } = cancelMany(loaded, { requests, ...CANCEL }, 2);
  report(`${requests} cancelled requests, ${streamed} of them while they streamed`, problems);
  report(`two streams beside ${longPrompt} tokens`, streams(loaded, longPrompt));
  model.close();
  backend.close();
}

function streams(loaded: LoadedModel, longPrompt: number): string[] {
  const found = streamBesidePrompt(loaded, { ...STREAM, longPrompt });
  const ms = (times: readonly number[]) => times.map((time) => time.toFixed(1)).join(" and ");
  const problems = found.equalAnswers ? [] : ["an answer is another one than alone"];
  const longest = Math.max(...found.gapMs);
  if (!(longest <= MOST_GAP_MS))
    problems.push(`a stream waited ${longest.toFixed(1)} ms, expected at most ${MOST_GAP_MS}`);
  print(
    `longest gaps between tokens: ${ms(found.gapMs)} ms, alone ${ms(found.aloneGapMs)} ms; ${found.readBeside} tokens were read when the streams ended, all of them after ${(found.longPromptMs / 1000).toFixed(1)} s`,
  );
  return problems;
}

/** Makes the graphs of all steps, dense and sparse, which take memory once. */
function warm(model: FusedModel): void {
  for (const depth of [100, 17_000]) {
    const sequence = residentSequence(model.kv, depth, FUSED_STEP.drafts + 1);
    for (let nDrafts = 0; nDrafts <= FUSED_STEP.drafts; nDrafts++) {
      const tokens = Array.from({ length: nDrafts + 1 }, (_, i) => i);
      model.forward([{ sequence, tokens, wantsLogits: true, nDrafts }]).greedy();
    }
    model.kv.release(sequence);
  }
}

function isRandomTypes(text: string): text is RandomTypes {
  return (RANDOM_TYPES as readonly string[]).includes(text);
}

function wholeNumber(name: "requests" | "prompt"): number {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`expected a whole number of at least 1 with --${name}, found ${values[name]}`);
}

function report(what: string, problems: readonly string[]): void {
  print(
    problems.length === 0 ? `ok   ${what}` : `FAIL ${what}: ${problems.slice(0, 5).join("; ")}`,
  );
  if (problems.length > 0) process.exitCode = 1;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

try {
  main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
