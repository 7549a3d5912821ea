// A request in Markdown with the code that it was about: what its user alone sees, in the editor.
import type { CompletionTrace, Filtering } from "./completionTrace.ts";
import { wordsFor } from "./explanation.ts";
import { figuresOf, type TraceFigures } from "./traceFigures.ts";
import {
  type About,
  aboutSection,
  earlierSection,
  sectionsOf,
  share,
  table,
} from "./traceReport.ts";

/** Characters of the text before and after the cursor that are shown; the prompt has them all. */
const AROUND = 600;

/** A request that still has its code, with a line for each of the requests before it. */
export function documentOf(
  trace: CompletionTrace,
  earlier: readonly TraceFigures[],
  about: About,
): string {
  const { said } = wordsFor(trace.outcome ?? { kind: "nothing", reason: "superseded" });
  return whole([
    `# Why ${trace.outcome?.kind === "shown" ? "this suggestion" : "no suggestion"}: ${said}`,
    "This document holds code of yours. “Tidepool: Copy Completion Report” gives one without it.",
    ...sectionsOf(figuresOf(trace)),
    ...(["model", "copy"] as const).flatMap((source) => {
      const filtering = trace.filterings[source];
      return filtering ? [textSection(source, filtering)] : [];
    }),
    ...tokenSection(trace),
    ...placeSection(trace),
    ...promptSection(trace),
    ...earlierSection(earlier),
    ...aboutSection(about),
  ]);
}

/** A request of which only the figures are left. */
export function documentWithoutCode(
  figures: TraceFigures,
  earlier: readonly TraceFigures[],
  about: About,
): string {
  return whole([
    "# Why no suggestion",
    "This request is too old for its prompt and texts to be kept.",
    ...sectionsOf(figures),
    ...earlierSection(earlier),
    ...aboutSection(about),
  ]);
}

function whole(parts: readonly string[]): string {
  return `${parts.join("\n\n")}\n`;
}

/** The text before the first filter and after each one that changed it. */
function textSection(source: string, { text, steps }: Filtering): string {
  const changed = steps.filter(({ before, after }) => before !== after);
  const versions = changed.map(({ name, after }) =>
    /\S/.test(after) ? `After “${name}”:\n\n${fenced(after)}` : `“${name}” left nothing of it.`,
  );
  return [`## Text of the ${source}`, fenced(text), ...versions].join("\n\n");
}

function tokenSection({ generation, filterings }: CompletionTrace): string[] {
  const tokens = generation?.tokens ?? filterings.model?.tokens ?? [];
  if (tokens.length === 0) return [];
  let together = 0;
  const rows = tokens.map(({ text, logProb }) => {
    together += logProb;
    return [inCell(text), share(Math.exp(logProb)), share(Math.exp(together))];
  });
  return [`## Tokens\n\n${table(["token", "probability", "together"], rows)}`];
}

function placeSection({ site }: CompletionTrace): string[] {
  if (!site) return [];
  const text = `${site.prefix.slice(-AROUND)}⟨cursor⟩${site.suffix.slice(0, AROUND)}`;
  return [`## Place\n\n${fenced(text)}`];
}

function promptSection({ generation }: CompletionTrace): string[] {
  if (!generation) return [];
  const { input_prefix, input_suffix, input_extra = [] } = generation.request;
  return [
    "## What the model was given",
    ...input_extra.map(({ filename, text }) => `Of \`${filename}\`:\n\n${fenced(text)}`),
    `After the cursor:\n\n${fenced(input_suffix)}`,
    `Before the cursor:\n\n${fenced(input_prefix)}`,
  ];
}

/** A fence longer than any in the text. */
function fenced(text: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}text\n${text.replace(/\n?$/, "\n")}${fence}`;
}

/** Line ends and blanks as a reader can see them. */
function inCell(text: string): string {
  const visible = JSON.stringify(text).slice(1, -1).replaceAll("|", "\\|");
  const fence = visible.includes("`") ? "``" : "`";
  return `${fence} ${visible} ${fence}`;
}
