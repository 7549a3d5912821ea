/** What drafts save: the same greedy answers with and without them, on an edit that copies and on ordinary completions. */

import { EngineError } from "../base/errors.ts";
import { EngineRun, type Finished, greedyInput } from "../engineRun.ts";
import type { BenchSession } from "./benchSession.ts";
import { editText, placeText } from "./draftTexts.ts";
import { summarize } from "./percentile.ts";
import type { BenchReport } from "./report.ts";

const EDIT_TOKENS = 256;
const COMPLETION_TOKENS = 96;
const PROMPT_TOKENS = 1000;

interface Task {
  name: string;
  nTokens: number;
  prompts: Parameters<typeof greedyInput>[0][];
}

export function draftsBench(session: BenchSession): BenchReport {
  const { parts } = session;
  const room = Math.min(PROMPT_TOKENS, Math.floor(parts.summary.contextLength / 2));
  const n = session.times(8, 1);
  const tasks: Task[] = [
    {
      name: "edit: lines again, a name changed",
      nTokens: EDIT_TOKENS,
      prompts: edits(session, room, n),
    },
    { name: "completion", nTokens: COMPLETION_TOKENS, prompts: completions(session, room, n) },
  ];
  const [on, off] = [true, false].map((drafts) => new EngineRun({ ...parts, drafts }));
  if (on === undefined || off === undefined)
    throw new EngineError("internal", "expected two engines");
  const measured = tasks.map((task) => measure(task, on, off));
  const report = session.report("drafts");
  session.close();
  report.rows = measured.flatMap(({ rows }) => rows);
  report.facts = Object.assign({}, ...measured.map(({ facts }) => facts)) as BenchReport["facts"];
  return report;
}

/** Each prompt by both engines in turns, so that both find the same load; the prompt itself is read beforehand. */
function measure({ name, nTokens, prompts }: Task, on: EngineRun, off: EngineRun) {
  const times: { on: number[]; off: number[] } = { on: [], off: [] };
  const sum = { drafted: 0, accepted: 0, tokens: 0, equal: 0 };
  for (const prompt of prompts) {
    off.run(greedyInput(prompt, 1));
    const plain = off.run(greedyInput(prompt, nTokens));
    const drafted = on.run(greedyInput(prompt, nTokens));
    times.off.push(perToken(plain));
    times.on.push(perToken(drafted));
    sum.tokens += drafted.nTokens;
    sum.drafted += drafted.result.drafts.drafted;
    sum.accepted += drafted.result.drafts.accepted;
    sum.equal += Number(drafted.text === plain.text);
  }
  const rows = (["off", "on"] as const).map((which) => {
    const { n, p50Ms, p95Ms, meanMs } = summarize(times[which]);
    return {
      name: `${name}, drafts ${which}, a token`,
      n,
      p50Ms,
      p95Ms,
      tokensPerS: 1000 / meanMs,
    };
  });
  const [offMs, onMs] = [summarize(times.off).meanMs, summarize(times.on).meanMs];
  const share = (part: number, of: number) =>
    of > 0 ? `${((100 * part) / of).toFixed(0)} %` : "none";
  return {
    rows,
    facts: {
      [`${name}: tokens per second on / off`]: (offMs / onMs).toFixed(2),
      [`${name}: drafts accepted`]: `${share(sum.accepted, sum.drafted)} of ${sum.drafted}, for ${share(sum.accepted, sum.tokens)} of ${sum.tokens} tokens`,
      [`${name}: equal answers`]: `${sum.equal} of ${prompts.length}`,
    },
  };
}

function perToken({ result, nTokens }: Finished): number {
  return result.predictedMs / Math.max(1, nTokens - 1);
}

function edits(session: BenchSession, nTokens: number, n: number): Task["prompts"] {
  return Array.from({ length: n }, (_, i) => ({
    kind: "text" as const,
    text: editText(session.texts, nTokens, i).prompt,
  }));
}

function completions(session: BenchSession, nTokens: number, n: number): Task["prompts"] {
  return Array.from({ length: n }, (_, i) => {
    const { prefix, suffix } = placeText(session.texts, nTokens, COMPLETION_TOKENS, i);
    return {
      kind: "infill" as const,
      parts: { prefix, suffix, filename: "src/sample.ts", extra: [], heal: true },
    };
  });
}
