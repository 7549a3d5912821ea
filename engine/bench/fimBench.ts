/** The main job: a short completion after one more keystroke, its prompt cached, in this process and through the daemon. */

import { EngineRun, greedyInput, withoutEnd } from "../engineRun.ts";
import type { BenchSession } from "./benchSession.ts";
import { DaemonProbe } from "./daemonProbe.ts";
import { percentile, summarize } from "./percentile.ts";
import { type BenchReport, type BenchRow, stepProfile } from "./report.ts";

const N_TOKENS = 16;
const PROMPT_TOKENS = 1000;
const FILENAME = "src/sample.ts";

/** A document while somebody types into it. */
interface Typing {
  prefix: string;
  suffix: string;
  /** What follows the prefix, character by character. */
  typed: string;
}

export async function fimBench(session: BenchSession): Promise<BenchReport> {
  const typing = typingIn(session);
  const inProcess = runInProcess(session, typing);
  const report = session.report("fim");
  session.close();
  report.rows = inProcess.rows;
  report.facts = inProcess.facts;
  report.profile = inProcess.profile;
  await measureDaemon(session, typing, report);
  return report;
}

/** About PROMPT_TOKENS tokens around a cursor, three quarters of them before it, or less when the context is small. */
function typingIn(session: BenchSession): Typing {
  const { tokenizer, summary } = session.parts;
  const n = Math.min(PROMPT_TOKENS, summary.contextLength - 128);
  const tokens = session.promptTokens(n + 64, 0).slice(1);
  const nPrefix = Math.floor(n * 0.75);
  const text = (from: number, to: number) => tokenizer.decode(tokens.slice(from, to));
  return {
    prefix: text(0, nPrefix),
    typed: text(nPrefix, nPrefix + 64),
    suffix: text(nPrefix + 64, n + 64),
  };
}

function runInProcess(session: BenchSession, { prefix, suffix, typed }: Typing) {
  const engine = new EngineRun(withoutEnd(session.parts));
  const keystroke = (i: number) =>
    engine.run(
      greedyInput(
        {
          kind: "infill",
          parts: {
            prefix: prefix + typed.slice(0, i + 1),
            suffix,
            filename: FILENAME,
            extra: [],
          },
        },
        N_TOKENS,
      ),
    );
  const cold = keystroke(0);
  const nRuns = Math.min(session.times(40, 3), typed.length - 1);
  const runs = Array.from({ length: nRuns }, (_, i) => keystroke(i + 1));
  const { backend } = session.parts;
  backend.profileReset();
  const profiled = Array.from({ length: nRuns }, (_, i) => keystroke(i + 1));
  const wallMs = profiled.reduce((sum, { ms }) => sum + ms, 0);
  const fresh = runs.map(({ result }) => result.promptTokens - result.cachedTokens);
  return {
    rows: [
      rowOf(
        `${N_TOKENS} tokens, in this process`,
        runs.map(({ ms }) => ms),
      ),
      promptRow(runs.map(({ result }) => result.promptMs)),
    ],
    facts: {
      "prompt tokens": cold.result.promptTokens,
      "fresh prompt tokens per keystroke, median": percentile(fresh, 0.5),
      "same completion with a cold cache": `${cold.ms.toFixed(1)} ms`,
    },
    profile: stepProfile(
      `a completion of ${N_TOKENS} tokens`,
      backend.profileRead(),
      nRuns,
      wallMs,
    ),
  };
}

function promptRow(times: readonly number[]): BenchRow {
  const { n, p50Ms, p95Ms } = summarize(times);
  return { name: "of that, until the first token", n, p50Ms, p95Ms };
}

function rowOf(name: string, times: readonly number[]): BenchRow {
  const { n, p50Ms, p95Ms, meanMs } = summarize(times);
  return { name, n, p50Ms, p95Ms, tokensPerS: (1000 * N_TOKENS) / meanMs };
}

async function measureDaemon(session: BenchSession, typing: Typing, report: BenchReport) {
  const readyMs: number[] = [];
  for (let i = 1; i < session.times(5, 1); i++) {
    const daemon = await DaemonProbe.start(session.options);
    readyMs.push(daemon.readyMs);
    await daemon.stop();
  }
  const daemon = await DaemonProbe.start(session.options);
  try {
    readyMs.push(daemon.readyMs);
    for (const stream of [false, true])
      report.rows.push(...(await requestRows(session, typing, daemon, stream)));
    report.memory.daemonRssBytes = await daemon.rssBytes();
  } finally {
    await daemon.stop();
  }
  const { n, p50Ms, p95Ms } = summarize(readyMs);
  report.rows.push({ name: "daemon, process start to ready", n, p50Ms, p95Ms });
}

/** Requests that the model ended before N_TOKENS are left out: their times say something else. */
async function requestRows(
  session: BenchSession,
  { prefix, suffix, typed }: Typing,
  daemon: DaemonProbe,
  stream: boolean,
): Promise<BenchRow[]> {
  const times: number[] = [];
  for (let i = 0; i <= Math.min(session.times(40, 3), typed.length - 1); i++) {
    const { nTokens, ms } = await daemon.infill({
      input_prefix: prefix + typed.slice(0, i + 1),
      input_suffix: suffix,
      filename: FILENAME,
      n_predict: N_TOKENS,
      stream,
    });
    if (i > 0 && nTokens === N_TOKENS) times.push(ms);
  }
  const name = `${N_TOKENS} tokens, daemon, ${stream ? "streamed" : "whole"}`;
  return times.length === 0 ? [] : [rowOf(name, times)];
}
