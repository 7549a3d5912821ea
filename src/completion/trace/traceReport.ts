// A request in Markdown, for who asks why: made of figures alone, so that it can be given to anybody.
import { wordsFor } from "./explanation.ts";
import type { EngineFigures, FilteringFigures, TraceFigures } from "./traceFigures.ts";

/** Versions and the like: line by line what stands at a report's end. */
export type About = Readonly<Record<string, string>>;

/** More tokens than these say nothing new. */
const TOKENS_SHOWN = 40;

/** The whole report without any code: of one request, with a line for each of the requests before it. */
export function reportOf(figures: TraceFigures, earlier: readonly TraceFigures[], about: About) {
  return [
    "# Tidepool: completion report",
    "No code is in this report: only lengths, counts, times, probabilities and names of Tidepool’s own parts.",
    ...sectionsOf(figures),
    ...probabilitySection(figures.engine),
    ...earlierSection(earlier),
    ...aboutSection(about),
  ]
    .join("\n\n")
    .concat("\n");
}

/** What is common to the report and the document with code: outcome, stages, engine, filters, settings. */
export function sectionsOf(figures: TraceFigures): string[] {
  const { outcome, engine, filterings } = figures;
  const { said, advice } = wordsFor(outcome, figures.asked?.mode);
  const verdict = outcome.kind === "shown" ? `Shown: ${said}.` : `Nothing was shown: ${said}.`;
  return [
    ...(advice === "" ? [verdict] : [verdict, advice]),
    ...unsureSection(figures),
    stageSection(figures),
    ...(engine ? [engineSection(engine)] : []),
    ...filterings.map(filterSection),
    settingSection(figures),
  ];
}

export function aboutSection(about: About): string[] {
  const lines = Object.entries(about).map(([name, value]) => `- ${name}: ${value}`);
  return lines.length > 0 ? [`## Versions\n\n${lines.join("\n")}`] : [];
}

export function earlierSection(earlier: readonly TraceFigures[]): string[] {
  if (earlier.length === 0) return [];
  const rows = earlier.map(({ at, asked, totalMs, outcome }) => [
    timeOf(at),
    asked?.extension ?? "",
    ms(totalMs),
    (outcome.kind === "shown" ? "shown: " : "") + wordsFor(outcome).said,
  ]);
  return [`## The last requests\n\n${table(["time", "file", "ms", "outcome"], rows)}`];
}

/** A table in Markdown whose columns stand below each other in the plain text too; the last may be of any width. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((name, i) =>
    i === head.length - 1 ? 3 : Math.max(3, name.length, ...rows.map((row) => row[i]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

function unsureSection({ outcome, engine, sure }: TraceFigures): string[] {
  const first = engine?.tokens[0];
  if (outcome.kind !== "nothing" || outcome.reason !== "unsure" || !first) return [];
  return [
    `The model gave its first token a probability of ${share(first.probability)}; what is shown here must have at least ${share(sure)} together.`,
  ];
}

function stageSection({ stages, totalMs, engine }: TraceFigures): string {
  const rows = stages.map((stage) => [stage.name, ms(stage.startMs), ms(stage.ms), stage.note]);
  if (engine) rows.push(...engineRows(engine));
  rows.push(["all", ms(0), ms(totalMs), ""]);
  return `## Stages\n\n${table(["stage", "at ms", "took ms", "what came of it"], rows)}`;
}

const endings: Record<EngineFigures["ending"], string> = {
  running: "still running",
  eos: "the model ended",
  limit: "the most tokens were reached",
  word: "the line or block ended",
  none: "cancelled",
  enough: "ended by Tidepool: more would not have been shown",
  aborted: "given up, because the document changed",
  failed: "the engine failed",
};

function engineRows(engine: EngineFigures): string[][] {
  const { queueMs, prefillMs, decodeMs, totalMs, tokens, promptTokens, cachedTokens } = engine;
  const read =
    promptTokens === undefined ? "" : `${promptTokens} tokens, ${cachedTokens ?? 0} of them cached`;
  const whose = engine.joined ? "asked for earlier" : "asked for now";
  return [
    ["engine: queue", "", ms(queueMs), ""],
    ["engine: prefill", "", ms(prefillMs), read],
    ["engine: decode", "", ms(decodeMs), `${tokens.length} tokens; ${endings[engine.ending]}`],
    ["engine: request", "", ms(totalMs), whose],
  ];
}

function engineSection({ prefix, suffix, extra, mostTokens }: EngineFigures): string {
  const files = extra.length === 0 ? "none" : `${extra.length} (${extra.join(", ")} characters)`;
  return [
    "## Prompt",
    "",
    `- before the cursor: ${prefix} characters`,
    `- after the cursor: ${suffix} characters`,
    `- parts of other files: ${files}`,
    `- most tokens to generate: ${mostTokens ?? "not set"}`,
  ].join("\n");
}

const sourceNames = { model: "the model’s text", copy: "the copied text" } as const;

function filterSection({ source, length, steps, nSteps }: FilteringFigures): string {
  const head = `## Filters of ${sourceNames[source]}\n\n${length} characters; ${nSteps} filters looked at them, and ${steps.length} changed them.`;
  if (steps.length === 0) return head;
  const rows = steps.map(({ name, before, after, emptied }) => [
    name,
    String(before),
    String(after),
    emptied ? "left nothing" : after < before ? "cut" : "changed",
  ]);
  return `${head}\n\n${table(["filter", "before", "after", ""], rows)}`;
}

function settingSection({ at, asked, settings, sure, around }: TraceFigures): string {
  const lines = [`time: ${timeOf(at)}`];
  if (asked) {
    lines.push(
      `file: \`${asked.extension || "no extension"}\`, language ${asked.languageId}`,
      `asked for: ${asked.trigger === "command" ? "by hand" : "while typing"}`,
      `mode: ${asked.mode}; ${asked.learned}`,
    );
  }
  if (!Number.isNaN(sure)) lines.push(`least probability of what is shown here: ${share(sure)}`);
  if (settings) {
    const { debounceMs, maxTokens, multiline, budgetMs } = settings;
    lines.push(
      `debounce: ${debounceMs} ms; most tokens: ${maxTokens}; lines: ${multiline}; shown after ${budgetMs ?? "∞"} ms at the latest`,
    );
  }
  if (around) {
    const { before, after, lineBefore, lineAfter } = around;
    lines.push(
      `characters looked at: ${before} before the cursor (${lineBefore} on its line), ${after} after it (${lineAfter} on its line)`,
    );
  }
  return `## Settings in force\n\n${lines.map((line) => `- ${line}`).join("\n")}`;
}

function probabilitySection(engine: EngineFigures | undefined): string[] {
  if (!engine || engine.tokens.length === 0) return [];
  const rows = engine.tokens
    .slice(0, TOKENS_SHOWN)
    .map(({ length, probability, together }, i) => [
      String(i + 1),
      String(length),
      share(probability),
      share(together),
    ]);
  return [`## Tokens\n\n${table(["token", "characters", "probability", "together"], rows)}`];
}

/** A probability in per cent. */
export function share(probability: number): string {
  return `${(probability * 100).toFixed(1)} %`;
}

function ms(value: number | undefined): string {
  return value === undefined || Number.isNaN(value) ? "–" : value.toFixed(1);
}

function timeOf(at: number): string {
  return new Date(at).toISOString().slice(11, 23);
}
