import { completeOnce, type OneCompletion } from "../completion/completeOnce.ts";
import { DEFAULT_MAX_TOKENS } from "../completion/infillRequest.ts";
import { wordsFor } from "../completion/trace/explanation.ts";
import { refusalText } from "../context/guard/contextGuard.ts";
import { chunksOf, DEFAULT_CONTEXT_TOKENS } from "../context/snippet.ts";
import { LocalSyntax } from "../syntax/localSyntax.ts";
import { contextOf, relatedOf } from "./contextCommand.ts";
import { withEngine } from "./engineSession.ts";
import { openDocument, parseCount, parseLocation } from "./location.ts";
import { rounded } from "./rounded.ts";

export interface CompleteOptions {
  workspace?: string;
  model?: string;
  maxTokens?: string;
  json?: boolean;
}

/** `complete FILE:LINE:COL`: writes what the editor would show at this place. */
export async function completeCommand(place: string, options: CompleteOptions): Promise<void> {
  const location = parseLocation(place);
  const maxTokens =
    options.maxTokens === undefined
      ? DEFAULT_MAX_TOKENS
      : parseCount(options.maxTokens, "--max-tokens", 1);
  const started = performance.now();
  const opened = await openDocument(location, options.workspace);
  const { snapshot, guard } = opened;
  const refusal = await guard.refusalOfOpenFile(snapshot.filename, snapshot.text, snapshot.offset);
  if (refusal) return tellRefused(refusalText[refusal], options.json);
  const { snippets } = await contextOf(opened, DEFAULT_CONTEXT_TOKENS);
  const others = { extra: chunksOf(snippets), related: await relatedOf(opened) };
  const contextMs = performance.now() - started;
  const completion = await withEngine(options.model, ({ connection }) =>
    completeOnce(connection, { snapshot, ...others, maxTokens, syntax: new LocalSyntax() }),
  );
  if (completion.kind === "failed") throw new Error(completion.message);
  const totalMs = performance.now() - started;
  if (options.json)
    process.stdout.write(`${JSON.stringify(report(completion, contextMs, totalMs))}\n`);
  else if (completion.result.kind === "shown") process.stdout.write(`${completion.result.text}\n`);
  else process.stderr.write(`tidepool: no suggestion: ${wordsFor(completion.result).said}\n`);
}

/** The engine is not asked, and not even started. */
function tellRefused(reason: string, json = false): void {
  if (json) process.stdout.write(`${JSON.stringify({ text: "", tokens: 0, refused: reason })}\n`);
  else process.stderr.write(`tidepool: no suggestion: ${reason}\n`);
}

/** The `--json` form. `replace` stands there only when the text takes the place of that many units after the cursor. */
function report(
  { result, response }: Extract<OneCompletion, { kind: "answered" }>,
  contextMs: number,
  totalMs: number,
) {
  const { timings } = response;
  return {
    text: result.kind === "shown" ? result.text : "",
    tokens: response.tokens_predicted,
    finishReason: response.stop_type === "limit" ? "length" : "stop",
    timings: {
      contextMs: rounded(contextMs),
      prefillMs: rounded(timings.prompt_ms),
      decodeMs: rounded(timings.predicted_ms),
      totalMs: rounded(totalMs),
      promptTokens: response.tokens_evaluated,
      cachedTokens: response.tokens_cached,
    },
    ...(result.kind === "shown" && result.replaceLength > 0 && { replace: result.replaceLength }),
  };
}
