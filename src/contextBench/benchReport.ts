// The figures of a context benchmark as tables and as JSON.
import {
  budgets,
  type ContextBenchResult,
  type IndexCost,
  languagesOf,
  type Measured,
  type Source,
} from "./contextBench.ts";

export interface RecallRow {
  source: Source;
  /** A language; `all` is the mean of all positions, `languages` the mean of the languages. */
  group: string;
  positions: number;
  /** Mean over the positions, by budget. */
  identifiers: number[];
  definitions: number[];
}

export interface ContextBenchReport {
  bench: "context";
  version: string;
  seed: number;
  budgets: readonly number[];
  rows: RecallRow[];
  latency: { p50Ms: number; p95Ms: number };
  indexes: IndexCost[];
}

const sources: readonly Source[] = ["jaccard", "bm25", "imports", "mix", "tidepool"];

/** Means of what was measured, by source and language. */
export function reportOf(
  { measured, indexes }: ContextBenchResult,
  version: string,
  seed: number,
): ContextBenchReport {
  const rows: RecallRow[] = [];
  const ms = measured.flatMap((position) => position.ms).sort((a, b) => a - b);
  for (const source of sources) {
    if (!measured.some(({ recall }) => recall[source])) continue;
    const languages = languagesOf(measured).map((language) =>
      rowOf(
        source,
        language,
        measured.filter((position) => position.language === language),
      ),
    );
    rows.push(...languages, meanRow(source, languages), rowOf(source, "all", measured));
    for (const [group, share] of [
      ["imported", "all"],
      ["not imported", "none"],
    ] as const)
      rows.push(
        rowOf(
          source,
          group,
          measured.filter(({ imported }) => imported === share),
        ),
      );
  }
  const at = (share: number) => ms[Math.max(0, Math.ceil(share * ms.length) - 1)] ?? 0;
  const latency = { p50Ms: at(0.5), p95Ms: at(0.95) };
  return { bench: "context", version, seed, budgets, rows, latency, indexes };
}

function rowOf(source: Source, group: string, measured: readonly Measured[]): RecallRow {
  const mean = (figure: "identifiers" | "definitions") =>
    budgets.map((_, i) => {
      const sum = measured.reduce(
        (all, { recall }) => all + (recall[source]?.[i]?.[figure] ?? 0),
        0,
      );
      return measured.length === 0 ? 0 : sum / measured.length;
    });
  return {
    source,
    group,
    positions: measured.length,
    identifiers: mean("identifiers"),
    definitions: mean("definitions"),
  };
}

function meanRow(source: Source, rows: readonly RecallRow[]): RecallRow {
  const mean = (figure: "identifiers" | "definitions") =>
    budgets.map((_, i) => rows.reduce((sum, row) => sum + (row[figure][i] ?? 0), 0) / rows.length);
  const positions = rows.reduce((sum, row) => sum + row.positions, 0);
  return {
    source,
    group: "languages",
    positions,
    identifiers: mean("identifiers"),
    definitions: mean("definitions"),
  };
}

/** The report as text for a terminal. */
export function formatContextBench(report: ContextBenchReport): string {
  const shares = (values: readonly number[]) => values.map((v) => v.toFixed(3)).join(" ");
  const lines = report.rows.map((row) =>
    [
      row.source.padEnd(9),
      row.group.padEnd(13),
      String(row.positions).padStart(6),
      "  ",
      shares(row.identifiers),
      "  ",
      shares(row.definitions),
    ].join(" "),
  );
  const indexes = report.indexes.map(
    ({ root, files, lines: count, ms, memory, editMs }) =>
      `${String(files).padStart(6)} files ${String(count).padStart(8)} lines ${(ms / 1000).toFixed(1).padStart(6)} s ${(memory / 1e6).toFixed(0).padStart(5)} MB  edit ${editMs.toFixed(1).padStart(5)} ms  ${root}`,
  );
  const { p50Ms, p95Ms } = report.latency;
  return [
    `tidepool ${report.version} bench context, seed ${report.seed}`,
    `recall of identifiers and of definitions at ${report.budgets.join(" / ")} tokens, mean over positions`,
    "",
    ...lines,
    "",
    `retrieval p50 ${p50Ms.toFixed(1)} ms, p95 ${p95Ms.toFixed(1)} ms`,
    ...indexes,
    "",
  ].join("\n");
}
