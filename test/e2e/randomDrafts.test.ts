/** `bench drafts --random-lite` at a small size on an emulated GPU; its times mean nothing here, its counts do. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  breakEven,
  formatRandomDrafts,
  type RandomDraftsReport,
  randomDraftsBench,
} from "../../engine/bench/randomDrafts.ts";
import { LITE_CONFIG } from "../../engine/bench/randomLite.ts";
import { SourceText } from "../../engine/bench/sourceText.ts";
import { readGguf } from "../../engine/loader/gguf.ts";
import { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";

Object.assign(process.env, emulatedGpu());
const dir = mkdtempSync(path.join(tmpdir(), "tidepool-random-drafts-"));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

let report: RandomDraftsReport;
beforeAll(() => {
  // Short lines that are copied whole but for a name, so that the edit has tokens to draft.
  const source = path.join(dir, "source.ts");
  writeFileSync(source, "total += 1;\n".repeat(40));
  const tokenizer = new Tokenizer(readGguf("engine/models/tidepool-mini.gguf"));
  report = randomDraftsBench({
    ...{ version: "0", types: "q8_0" },
    texts: { tokenizer, source: new SourceText([source]) },
    sizes: {
      ...{ depths: [70], drafts: [0, 2], steps: 1 },
      ...{ texts: 1, prompt: 45, edit: 6, completion: 3 },
    },
    config: {
      ...LITE_CONFIG,
      ...{ vocab: 16_384, hidden: 64, nLayers: 1, nDenseLayers: 0 },
      moe: { ...LITE_CONFIG.moe, nExperts: 2, topK: 1, ff: 64, sharedFf: 64 },
    },
  });
});

test("measures steps of one token and of drafts behind it", () => {
  expect(report.steps.map(({ depth, drafts }) => [depth, drafts])).toEqual([
    [70, 0],
    [70, 2],
  ]);
  for (const { p50Ms, cost, drafts, breakEven: chance } of report.steps) {
    expect(p50Ms).toBeGreaterThan(0);
    expect(cost).toBeCloseTo(p50Ms / (report.steps[0]?.p50Ms ?? 0));
    expect(chance).toBe(breakEven(drafts, cost));
  }
});

test("writes known text with drafts and without, some of them right, the model's own choices the same", () => {
  expect(report.replays.map(({ name }) => name)).toEqual([
    "edit: lines again, a name changed",
    "completion",
  ]);
  for (const replay of report.replays) {
    expect(replay.tokens).toBeGreaterThan(1);
    expect(replay.ratio).toBeCloseTo(replay.onPerS / replay.offPerS);
    expect(replay.accepted).toBeLessThanOrEqual(replay.drafted);
    expect(replay.choices).toBe(replay.tokens + 1);
    expect(replay.equalChoices).toBe(replay.choices);
  }
  expect(report.replays[0]?.accepted).toBeGreaterThan(0);
  expect(formatRandomDrafts(report)).toMatch(/^2 drafts after 70 +1 /m);
  expect(formatRandomDrafts(report)).toMatch(/^edit: .* \d+ of \d+ +6 of 6$/m);
});

test("says from what chance on drafts pay", () => {
  expect(breakEven(1, 1.4)).toBeCloseTo(0.4);
  expect(breakEven(2, 1.75)).toBeCloseTo(0.5);
  expect(breakEven(3, 4.1)).toBeNull();
  expect(breakEven(3, 0.9)).toBeCloseTo(0);
});
