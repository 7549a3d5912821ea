// Makes src/completion/copies/rightness.json anew: `node scripts/countCopies.mjs [--sessions N] FOLDER…`, folders of repositories.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { inRoot } from "./lib/paths.mjs";

const { values, positionals } = parseArgs({
  options: { sessions: { type: "string", default: "400" }, seed: { type: "string", default: "2" } },
  allowPositionals: true,
});
if (positionals.length === 0) {
  console.error("countCopies: expected folders of source files, found none");
  process.exit(2);
}
const outfile = inRoot(".cache", "countCopies.cjs");
await build({
  stdin: {
    contents: `export { countCopies } from "./countCopies.ts"; export { collectSessions } from "./sessions.ts";`,
    resolveDir: inRoot("src", "replay"),
  },
  bundle: true,
  platform: "node",
  format: "cjs",
  outfile,
});
const { collectSessions, countCopies } = createRequire(import.meta.url)(outfile);
const count = Math.ceil(Number(values.sessions) / positionals.length);
const sessions = positionals.flatMap((folder) =>
  collectSessions({ folders: [folder], count, length: 240, seed: Number(values.seed) }),
);
const table = await countCopies(sessions);
const stages = Object.entries(table).map(
  ([stage, rows]) =>
    `  "${stage}": [\n${rows.map((row) => `    ${JSON.stringify(row).replaceAll(",", ", ")}`).join(",\n")}\n  ]`,
);
writeFileSync(
  inRoot("src", "completion", "copies", "rightness.json"),
  `{\n${stages.join(",\n")}\n}\n`,
);
console.log(`${sessions.length} sessions counted`);
