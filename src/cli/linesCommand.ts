import { resolve } from "node:path";
import { formatLines, type LineReport, measureLines } from "../replay/lineBench.ts";
import { collectLines } from "../replay/lineCases.ts";
import { withPrivateEngine } from "./engineSession.ts";
import { parseCount } from "./location.ts";
import { productVersion } from "./productFiles.ts";
import { progress, sourceFolders } from "./sourceFolders.ts";

export interface LinesOptions {
  files: string[];
  model?: string;
  cases: string;
  seed: string;
  json?: boolean;
}

/** `bench lines`: takes lines out of real source files and prints how often the model puts them back. */
export async function linesCommand(options: LinesOptions): Promise<void> {
  const folders = sourceFolders(options.files);
  const seed = parseCount(options.seed, "--seed", 0);
  const perLanguage = parseCount(options.cases, "--cases", 1);
  const cases = collectLines({ folders, perLanguage, seed });
  const report = await withPrivateEngine(
    options.model === undefined ? undefined : resolve(options.model),
    async ({ connection, health }): Promise<LineReport> => ({
      bench: "lines",
      version: productVersion(),
      model: health.model.id,
      device: health.model.device,
      folders,
      seed,
      rows: await measureLines(cases, connection, progress("line")),
    }),
  );
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : formatLines(report));
}
