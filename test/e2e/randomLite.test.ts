/** `bench … --random-lite` at a small size on an emulated GPU, its figures and the peer beside it; figures mean nothing here. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { runRandomLite } from "../../engine/bench/benchCommand.ts";
import { withPeer } from "../../engine/bench/peer.ts";
import {
  formatRandomLite,
  LITE_CONFIG,
  type RandomLiteReport,
  randomLiteBench,
} from "../../engine/bench/randomLite.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";

Object.assign(process.env, emulatedGpu());
const dir = mkdtempSync(path.join(tmpdir(), "tidepool-peer-"));
const oldPath = process.env["PATH"] ?? "";
afterAll(() => {
  process.env["PATH"] = oldPath;
  rmSync(dir, { recursive: true });
});

const sizes = {
  depths: [0, 70],
  decodeSteps: 2,
  prompts: [20],
  fim: { resident: 70, fresh: 3, generated: 2 },
  runs: 1,
};
const options = {
  version: "0",
  types: "q8_0",
  sizes,
  config: {
    ...LITE_CONFIG,
    ...{ vocab: 320, hidden: 256, nLayers: 1, nDenseLayers: 0 },
    moe: { ...LITE_CONFIG.moe, nExperts: 8, topK: 2, ff: 128, sharedFf: 128 },
  },
  limitsOf: () => ({ copyGbPerS: 100, matrixTflopPerS: 10 }),
} as const;

function expectFigures({ rows, limits }: RandomLiteReport, names: readonly RegExp[]): void {
  expect(rows.map(({ name }) => name)).toEqual(names.map((name) => expect.stringMatching(name)));
  for (const row of rows) {
    for (const value of [row.p50Ms, row.tokensPerS, row.gbPerS, row.tflopPerS])
      expect(value).toBeGreaterThan(0);
    expect(row.percentOfCopy).toBeCloseTo((100 * row.gbPerS) / limits.copyGbPerS, 6);
    expect(row.percentOfMatrixRate).toBeCloseTo((100 * row.tflopPerS) / limits.matrixTflopPerS, 6);
  }
}

test("measures tokens behind what is cached, and reads more bytes behind more", () => {
  const report = randomLiteBench("decode", options);
  expectFigures(report, [/^one token after 0$/, /^one token after 70$/]);
  const bytes = report.rows.map(({ gbPerS, tokensPerS }) => (gbPerS * 1e9) / tokensPerS);
  // 70 or 71 rows of 576 numbers of bf16 more.
  expect((bytes[1] ?? 0) - (bytes[0] ?? 0)).toBeCloseTo(70 * 576 * 2, -1);
  expect(formatRandomLite(report)).toMatch(/^one token after 70 +2 .*%\)/m);
  const fp8 = randomLiteBench("decode", { ...options, kvCache: "fp8" });
  const fewer = fp8.rows.map(({ gbPerS, tokensPerS }) => (gbPerS * 1e9) / tokensPerS);
  expect((fewer[1] ?? 0) - (fewer[0] ?? 0)).toBeCloseTo(70 * 656, -1);
  expect(formatRandomLite(fp8)).toContain("random q8_0 weights, fp8 cache");
});

test("measures prompts, and completions behind a resident prefix", () => {
  expectFigures(randomLiteBench("prefill", options), [/^a prompt of 20 tokens$/]);
  expectFigures(randomLiteBench("fim", options), [/^2 tokens after 3 new ones behind 70$/]);
});

const command = {
  version: "0",
  types: "q8_0",
  kvCache: "bf16",
  modelPath: "none.gguf",
  sources: [],
  peer: undefined,
  quick: true,
} as const;

test("needs a GPU, and says so", () => {
  for (const bench of ["decode", "drafts"] as const)
    expect(() => runRandomLite(bench, { ...command, device: "cpu" }, true)).toThrow(
      "expected --device cuda with --random-lite, found cpu",
    );
});

test("refuses a peer for what it cannot measure before anything is measured", () => {
  for (const bench of ["fim", "drafts"] as const)
    expect(() =>
      runRandomLite(bench, { ...command, device: "cuda", peer: "peer.gguf" }, true),
    ).toThrow(`expected --peer with decode or prefill, found ${bench}`);
});

test("puts the peer's figures of the same lengths beside ours", () => {
  const row = { name: "one token after 70", length: 70, n: 1, p50Ms: 1, p95Ms: 1 };
  const rates = { gbPerS: 1, percentOfCopy: 1, tflopPerS: 1, percentOfMatrixRate: 1 };
  const report: RandomLiteReport = {
    ...{ bench: "decode", version: "0", types: "q8_0", kvCache: "bf16", device: "a GPU" },
    limits: options.limitsOf(),
    rows: [{ ...row, ...rates, tokensPerS: 500 }],
  };
  process.env["PATH"] = dir;
  expect(() => withPeer(report, sizes, "m.gguf")).toThrow(/^expected llama-bench on the PATH/);
  process.env["PATH"] = `${dir}${path.delimiter}${oldPath}`;
  const program = path.join(dir, "llama-bench");
  const answer = (text: string) => {
    writeFileSync(program, `#!/bin/sh\n${text}\n`);
    chmodSync(program, 0o755);
  };
  answer(
    `[ "$*" = "-m m.gguf -ngl 99 -fa 1 -o json -p 0 -n 2 -d 0,70" ] || exit 3
echo '[{"n_prompt":0,"n_gen":2,"n_depth":70,"avg_ts":250.0}]'`,
  );
  expect(withPeer(report, sizes, "m.gguf").rows[0]?.peer).toEqual({ tokensPerS: 250, ratio: 2 });
  answer("echo broken >&2; exit 7");
  expect(() => withPeer(report, sizes, "m.gguf")).toThrow(/^llama-bench ended with 7: broken$/);
  answer("echo no JSON");
  expect(() => withPeer(report, sizes, "m.gguf")).toThrow(/^expected figures of llama-bench/);
});
