// Figures of a replay: what an ideal user saves, how often a text is worth showing, and how soon it is there.
import type { PromptTally } from "./controllerSource.ts";
import type { Taking, Tally } from "./idealUser.ts";
import { percent, table } from "./textTable.ts";

export interface ReplayRow {
  source: string;
  language: string;
  taking: Taking;
  characters: number;
  /** Share of the characters that needed no key of their own. */
  saved: number;
  /** Texts shown for each 100 keystrokes. */
  shownPer100Keys: number;
  /** Share of the texts shown that were taken, and of all displays after a keystroke. */
  accepted: number;
  acceptedOfDisplays: number;
  p50Ms: number;
  p95Ms: number;
}

export interface ReplayReport {
  bench: "fim --replay";
  version: string;
  model: string;
  device: string;
  sessions: number;
  folders: string[];
  settings: { debounceMs: number; maxTokens: number; keyMs: number; seed: number };
  rows: ReplayRow[];
  prompts: { requests: number; tokensMedian: number; cachedShare: number; freshP95: number };
}

export function rowOf(source: string, language: string, taking: Taking, tally: Tally): ReplayRow {
  const { characters, keystrokes, shown, accepted, displays, ms } = tally;
  return {
    source,
    language,
    taking,
    characters,
    saved: ratio(characters - keystrokes, characters),
    shownPer100Keys: 100 * ratio(shown, keystrokes),
    accepted: ratio(accepted, shown),
    acceptedOfDisplays: ratio(accepted, displays),
    p50Ms: percentile(ms, 0.5),
    p95Ms: percentile(ms, 0.95),
  };
}

export function promptFigures(prompts: PromptTally): ReplayReport["prompts"] {
  const { requests, promptTokens, cachedTokens, fresh } = prompts;
  return {
    requests,
    tokensMedian: Math.round(ratio(promptTokens, requests)),
    cachedShare: ratio(cachedTokens, promptTokens),
    freshP95: percentile(fresh, 0.95),
  };
}

/** Adds `part` to `sum`. */
export function addTally(sum: Tally, part: Tally): void {
  for (const key of ["characters", "keystrokes", "shown", "accepted", "displays"] as const)
    sum[key] += part[key];
  for (const ms of part.ms) sum.ms.push(ms);
}

export function formatReplay(report: ReplayReport): string {
  const { prompts, settings } = report;
  const head = [
    "source",
    "language",
    "taken",
    "saved",
    "shown/100",
    "accepted",
    "of displays",
    "p50 ms",
    "p95 ms",
  ];
  const rows = report.rows.map((row) => [
    row.source,
    row.language,
    row.taking,
    percent(row.saved),
    row.shownPer100Keys.toFixed(0),
    percent(row.accepted),
    percent(row.acceptedOfDisplays),
    row.p50Ms.toFixed(1),
    row.p95Ms.toFixed(1),
  ]);
  return [
    `tidepool ${report.version} bench fim --replay`,
    `model     ${report.model} on ${report.device}`,
    `sessions  ${report.sessions} from ${report.folders.join(", ")}, seed ${settings.seed}`,
    `user      debounce ${settings.debounceMs} ms, a key in ${settings.keyMs} ms`,
    `prompts   ${prompts.requests} requests of ${prompts.tokensMedian} tokens, ${percent(prompts.cachedShare)} from the cache, 95 % compute at most ${prompts.freshP95.toFixed(0)}`,
    "",
    ...table(head, rows, 3),
    "",
  ].join("\n");
}

/** 0 over 0 is 0. */
function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

/** The nearest-rank percentile of some times; 0 of none. */
function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}
