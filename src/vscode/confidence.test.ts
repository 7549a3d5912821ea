import { beforeEach, expect, test } from "vitest";
import type * as vscode from "vscode";
import { Document, editor } from "../../test/support/fakeEditor.ts";
import { startOf } from "../completion/confidence/learned.ts";
import { siteOf } from "../completion/documentSnapshot.ts";
import { Confidence } from "./confidence.ts";

const document = new Document("/w/a.go", "go", "") as unknown as vscode.TextDocument;

let kept: Map<string, unknown>;
let confidence: Confidence;
beforeEach(() => {
  editor.reset("/w");
  kept = new Map();
  confidence = begin();
});

/** As another start of the editor finds it. */
function begin(): Confidence {
  return new Confidence({
    get: (key: string) => kept.get(key),
    update: (key: string, value: unknown) => Promise.resolve(kept.set(key, value)),
  } as unknown as vscode.Memento);
}

const site = (text: string) => siteOf({ filename: "a.go", text, offset: text.length });

/** Shows a text so many times, which is taken whole each time. */
async function takeAll(times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    const taken = confidence.offered(site(`x${i} = `), "secretName()", "go");
    await editor.run(taken?.command ?? "", taken?.arguments?.[0]);
  }
}

test("who takes all that is shown is shown more, in the next session too", async () => {
  await takeAll(30);
  expect(confidence.thresholdFor(document).sure).toBeLessThan(startOf("balanced"));
  confidence.dispose();
  expect(begin().thresholdFor(document).sure).toBeLessThan(startOf("balanced"));
});

test("what is kept are numbers, and no code", async () => {
  await takeAll(2);
  confidence.dispose();
  expect(JSON.stringify([...kept])).not.toContain("secretName");
});

test("with learning off nothing is counted or kept, and the mode alone decides", async () => {
  editor.set("tidepool.learnFromUse", false);
  editor.set("tidepool.mode", "quiet");
  await takeAll(30);
  expect(confidence.thresholdFor(document)).toMatchObject({
    mode: "quiet",
    sure: startOf("quiet"),
  });
  confidence.dispose();
  expect(kept.size).toBe(0);
});

test("a reset forgets what was learned and what was kept of it", async () => {
  await takeAll(30);
  confidence.dispose();
  await confidence.reset();
  expect(confidence.thresholdFor(document).sure).toBe(startOf("balanced"));
  expect(begin().thresholdFor(document).sure).toBe(startOf("balanced"));
});
