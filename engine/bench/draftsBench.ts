/** What drafts save: the same greedy answers with and without them, on an edit that copies and on ordinary completions. */

import { EngineError } from "../base/errors.ts";
import { EngineRun, type Finished, greedyInput } from "../engineRun.ts";
import type { BenchSession } from "./benchSession.ts";
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

/** Source text, then its last lines begun again with another name for the word that they use most. */
function edits(session: BenchSession, nTokens: number, n: number): Task["prompts"] {
  const { tokenizer } = session.parts;
  return Array.from({ length: n }, (_, i) => {
    const text = tokenizer.decode(session.promptTokens(nTokens, i).slice(1));
    const lines = text.split("\n").slice(-41, -1);
    const word = commonWord(lines.join("\n"));
    const begun = lines.slice(0, 6).join("\n").replaceAll(word, `other${word}`);
    return {
      kind: "text" as const,
      text: `${text}\n\n// As before, with other${word} for ${word}.\n${begun}\n`,
    };
  });
}

function commonWord(text: string): string {
  const counts = new Map<string, number>();
  for (const [word] of text.matchAll(/[A-Za-z]{5,}/g))
    counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "value";
}

/** A place in source text with the text around it, three quarters before it. */
function completions(session: BenchSession, nTokens: number, n: number): Task["prompts"] {
  const { tokenizer } = session.parts;
  const nPrefix = Math.floor(0.75 * nTokens);
  return Array.from({ length: n }, (_, i) => {
    const tokens = session.promptTokens(nTokens + COMPLETION_TOKENS, i).slice(1);
    const prefix = tokenizer.decode(tokens.slice(0, nPrefix));
    const suffix = tokenizer.decode(tokens.slice(nPrefix + COMPLETION_TOKENS));
    return {
      kind: "infill" as const,
      parts: { prefix, suffix, filename: "src/sample.ts", extra: [], heal: true },
    };
  });
}
