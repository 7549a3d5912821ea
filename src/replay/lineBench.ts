// How often a model says exactly the line that stood there, greedily and with the file alone as context.
import { distance } from "fastest-levenshtein";
import { siteOf } from "../completion/documentSnapshot.ts";
import { DEFAULT_MAX_TOKENS, infillRequest } from "../completion/infillRequest.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import type { LineCase, LineKind } from "./lineCases.ts";
import { percent, table } from "./textTable.ts";

export interface LineRow {
  language: string;
  kind: LineKind | "both";
  cases: number;
  /** Share of lines that came out as they stood, blanks at their end apart. */
  exact: number;
  /** Mean of 1 − edit distance / length of the longer text. */
  similarity: number;
}

export interface LineReport {
  bench: "lines";
  version: string;
  model: string;
  device: string;
  folders: string[];
  seed: number;
  rows: LineRow[];
}

/** One case with what the model said. */
interface Judged {
  of: LineCase;
  exact: boolean;
  similarity: number;
}

/**
 * Asks for every case as the editor does, without its filters. `onCase` hears how many are done. Throws when the engine
 * fails a request.
 */
export async function measureLines(
  cases: readonly LineCase[],
  engine: EngineApi,
  onCase: (done: number, total: number) => void,
): Promise<LineRow[]> {
  const judged: Judged[] = [];
  for (const one of cases) {
    onCase(judged.length, cases.length);
    judged.push({ of: one, ...judge(await answerTo(one, engine), one.line) });
  }
  return rowsOf(judged);
}

async function answerTo({ filename, before, after }: LineCase, engine: EngineApi): Promise<string> {
  const site = siteOf({ filename, text: before + after, offset: before.length });
  const parts = { suffix: site.suffix, extra: [] };
  const outcome = await engine.infill(infillRequest(site, "single", parts, DEFAULT_MAX_TOKENS));
  if (outcome.kind === "done") return outcome.text;
  const why = outcome.kind === "failed" ? outcome.failure.message : outcome.kind;
  throw new Error(`the engine could not answer: ${why}`);
}

/** How `said` compares with the line that stood there. */
export function judge(said: string, line: string): { exact: boolean; similarity: number } {
  const [a, b] = [said.trimEnd(), line.trimEnd()];
  const longer = Math.max(a.length, b.length);
  return { exact: a === b, similarity: longer === 0 ? 1 : 1 - distance(a, b) / longer };
}

/** Each language with both kinds together, then all languages by kind and together. */
function rowsOf(judged: readonly Judged[]): LineRow[] {
  const languages = [...new Set(judged.map(({ of }) => of.language))];
  const ofKind = (kind: LineKind) => judged.filter(({ of }) => of.kind === kind);
  return [
    ...languages.map((language) =>
      rowOf(
        language,
        "both",
        judged.filter(({ of }) => of.language === language),
      ),
    ),
    rowOf("all", "line", ofKind("line")),
    rowOf("all", "rest", ofKind("rest")),
    rowOf("all", "both", judged),
  ];
}

function rowOf(language: string, kind: LineRow["kind"], judged: readonly Judged[]): LineRow {
  const mean = (value: (one: Judged) => number) =>
    judged.length === 0 ? 0 : judged.reduce((sum, one) => sum + value(one), 0) / judged.length;
  return {
    language,
    kind,
    cases: judged.length,
    exact: mean(({ exact }) => (exact ? 1 : 0)),
    similarity: mean(({ similarity }) => similarity),
  };
}

export function formatLines(report: LineReport): string {
  const rows = report.rows.map(({ language, kind, cases, exact, similarity }) => [
    language,
    kind,
    String(cases),
    percent(exact),
    similarity.toFixed(3),
  ]);
  return [
    `tidepool ${report.version} bench lines`,
    `model     ${report.model} on ${report.device}`,
    `files     ${report.folders.join(", ")}, seed ${report.seed}`,
    "",
    ...table(["language", "kind", "cases", "exact", "edit similarity"], rows, 2),
    "",
  ].join("\n");
}
