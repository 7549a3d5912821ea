/** Tokens one by one: the bare model loop at several depths, then the same through the daemon. */
import type { BenchSession } from "./benchSession.ts";
import { DaemonProbe } from "./daemonProbe.ts";
import { decodeTimes } from "./modelLoop.ts";
import { summarize } from "./percentile.ts";
import { type BenchReport, type BenchRow, type StepProfile, stepProfile } from "./report.ts";

/** Cached tokens of the row that the profile and the daemon are measured at. */
const DEPTH = 1000;
const STEPS_PER_RUN = 64;

export async function decodeBench(session: BenchSession): Promise<BenchReport> {
  const { contextLength } = session.parts.summary;
  const depths = [0, DEPTH, contextLength - 16].filter((depth) => depth + 16 <= contextLength);
  const timed = depths.map((depth) => timesAt(session, depth));
  // Profiling stays on once it was asked for, so everything is timed before anything is profiled.
  const profiled = depths.map((depth) => profileAt(session, depth));
  const report = session.report("decode");
  session.close();
  report.rows = depths.map((depth, i) => ({
    name: `one token after ${depth}`,
    ...rowOf(timed[i] ?? [], profiled[i]),
  }));
  const profile = profiled[Math.min(1, depths.length - 1)];
  if (profile !== undefined) report.profile = profile;
  return throughDaemon(session, report);
}

function timesAt(session: BenchSession, depth: number): number[] {
  const { model } = session.parts;
  const nWanted = session.times(256, 8);
  const prompt = session.promptTokens(Math.max(1, depth), 0);
  const nSteps = Math.min(STEPS_PER_RUN, nWanted, model.contextLength - prompt.length - 1);
  decodeTimes(model, prompt, Math.min(8, nSteps));
  const times: number[] = [];
  while (times.length < nWanted) times.push(...decodeTimes(model, prompt, nSteps));
  return times;
}

function profileAt(session: BenchSession, depth: number): StepProfile {
  const { model, backend } = session.parts;
  const prompt = session.promptTokens(Math.max(1, depth), 0);
  const nSteps = Math.min(session.times(64, 8), model.contextLength - prompt.length - 1);
  const times = decodeTimes(model, prompt, nSteps, () => backend.profileReset());
  const wallMs = times.reduce((sum, ms) => sum + ms, 0);
  return stepProfile(`one token after ${depth}`, backend.profileRead(), nSteps, wallMs);
}

/** Rates are the profiled step's bytes and operations over the time that a step takes when nobody profiles. */
function rowOf(times: readonly number[], profile: StepProfile | undefined): Omit<BenchRow, "name"> {
  const { n, p50Ms, p95Ms, meanMs } = summarize(times);
  const perStep = (rate: "gbPerS" | "gflopPerS") =>
    (profile?.ops ?? []).reduce((sum, op) => sum + op[rate] * op.usPerStep, 0);
  return {
    n,
    p50Ms,
    p95Ms,
    tokensPerS: 1000 / meanMs,
    gbPerS: perStep("gbPerS") / (meanMs * 1000),
    gflopPerS: perStep("gflopPerS") / (meanMs * 1000),
  };
}

async function throughDaemon(session: BenchSession, report: BenchReport): Promise<BenchReport> {
  const { tokenizer, summary } = session.parts;
  const nPrompt = Math.min(DEPTH, Math.floor(summary.contextLength / 2));
  const nPredict = Math.min(128, summary.contextLength - nPrompt - 32);
  const daemon = await DaemonProbe.start(session.options);
  try {
    for (const stream of [false, true]) {
      const perToken: number[] = [];
      for (let i = 0; i < session.times(8, 2); i++) {
        const prefix = tokenizer.decode(session.promptTokens(nPrompt, i % 4).slice(1));
        const body = { input_prefix: prefix, input_suffix: "", n_predict: nPredict, stream };
        const { nTokens, decodeMs } = await daemon.infill(body);
        if (nTokens > 1) perToken.push(decodeMs / (nTokens - 1));
      }
      if (perToken.length === 0) continue;
      const { n, p50Ms, p95Ms, meanMs } = summarize(perToken);
      const name = `daemon, ${stream ? "streamed" : "whole"}, after ${nPrompt}`;
      report.rows.push({ name, n, p50Ms, p95Ms, tokensPerS: 1000 / meanMs });
    }
    report.memory.daemonRssBytes = await daemon.rssBytes();
  } finally {
    await daemon.stop();
  }
  return report;
}
