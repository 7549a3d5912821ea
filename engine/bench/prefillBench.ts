/** Prompts that are not cached: as the scheduler cuts them, and in the model's largest steps. */

import { EngineRun, greedyInput, withoutEnd } from "../engineRun.ts";
import type { BenchSession } from "./benchSession.ts";
import { prefill } from "./modelLoop.ts";
import { summarize } from "./percentile.ts";
import { type BenchReport, type BenchRow, stepProfile } from "./report.ts";

const LENGTHS = [256, 1000, 2000];
const PROFILED_LENGTH = 1000;

export function prefillBench(session: BenchSession): BenchReport {
  const { contextLength } = session.parts.summary;
  const lengths = LENGTHS.filter((length) => length < contextLength);
  const scheduled = lengths.map((length) => scheduledRow(session, length));
  const bare = lengths.map((length) => bareRow(session, length));
  const profile = profileOf(session, Math.min(PROFILED_LENGTH, contextLength - 1));
  const report = session.report("prefill");
  report.rows = [...scheduled, ...bare];
  report.profile = profile;
  session.close();
  return report;
}

/** Until the first token, from the prompt's text, in steps that stay short for other requests. */
function scheduledRow(session: BenchSession, length: number): BenchRow {
  const engine = new EngineRun(withoutEnd(session.parts));
  const { tokenizer } = session.parts;
  const times: number[] = [];
  let nFresh = 0;
  for (let i = 0; i <= session.times(8, 1); i++) {
    const text = tokenizer.decode(session.promptTokens(length, length + i).slice(1));
    const { result, ms } = engine.run(greedyInput({ kind: "text", text }, 1));
    // The first run teaches the scheduler how large a step may be.
    if (i === 0) continue;
    times.push(ms);
    nFresh += result.promptTokens - result.cachedTokens;
  }
  const { n, p50Ms, p95Ms, meanMs } = summarize(times);
  return {
    name: `${length} tokens, scheduled`,
    n,
    p50Ms,
    p95Ms,
    tokensPerS: (1000 * nFresh) / (n * meanMs),
  };
}

function bareRow(session: BenchSession, length: number): BenchRow {
  const times = Array.from({ length: session.times(8, 1) }, (_, i) => {
    const startedAt = performance.now();
    bareRun(session, length, i);
    return performance.now() - startedAt;
  });
  const { n, p50Ms, p95Ms, meanMs } = summarize(times);
  const name = `${length} tokens, steps of ${session.parts.model.maxStepTokens}`;
  return { name, n, p50Ms, p95Ms, tokensPerS: (1000 * length) / meanMs };
}

/** Computes a prompt in a sequence that finds nothing in the cache. */
function bareRun(session: BenchSession, length: number, index: number): void {
  const { model } = session.parts;
  const sequence = model.kv.acquire([]);
  prefill(model, sequence, session.promptTokens(length, index));
  model.kv.release(sequence);
}

function profileOf(session: BenchSession, length: number) {
  const { backend } = session.parts;
  const nRuns = session.times(4, 1);
  backend.profileReset();
  const startedAt = performance.now();
  for (let i = 0; i < nRuns; i++) bareRun(session, length, i);
  const wallMs = performance.now() - startedAt;
  return stepProfile(`a prompt of ${length} tokens`, backend.profileRead(), nRuns, wallMs);
}
