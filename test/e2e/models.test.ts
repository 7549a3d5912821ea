/** `tidepool models` as a user runs it, and the names that it gives, with a hub on this machine. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ListedModel } from "../../engine/modelStore/modelList.ts";
import { cliBundle, tinyModel } from "../support/engineBundle.ts";
import { FakeHub } from "../support/fakeHub.ts";

let dir: string;
let bundle: string;
let hubUrl: string;
const hub = new FakeHub(readFileSync(tinyModel), ["pulled.gguf"]);

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "tidepool-models-test-"));
  bundle = cliBundle();
  hubUrl = await hub.start();
});
afterAll(async () => {
  await hub.stop();
  rmSync(dir, { recursive: true });
});

function tidepool(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const folders = { TIDEPOOL_DATA_DIR: join(dir, "data"), HF_HOME: join(dir, "hf") };
  const child = spawn(process.execPath, [bundle, ...args], {
    env: {
      ...process.env,
      ...folders,
      TIDEPOOL_RUNTIME_DIR: join(dir, "run"),
      HF_ENDPOINT: hubUrl,
    },
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (text: Buffer) => {
    out += text.toString();
  });
  child.stderr.on("data", (text: Buffer) => {
    err += text.toString();
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
  });
}

test("a model is added, pulled, used by its name and removed", async () => {
  expect(await tidepool("models", "add", tinyModel, "--name", "mine")).toMatchObject({ code: 0 });
  expect((await tidepool("models", "pull", "owner/small")).code).toBe(0);
  const { out } = await tidepool("models", "list", "--json");
  const added = (JSON.parse(out) as ListedModel[]).filter((model) => model.source !== "bundled");
  expect(added.map(({ name, source }) => [name, source])).toEqual([
    ["mine", "file"],
    ["pulled", "hub"],
  ]);
  expect(added[0]?.facts).toMatchObject({ quantisation: "F32", contextLength: 16384 });
  expect(added[0]?.facts?.fingerprint).toBe(added[1]?.facts?.fingerprint);
  const info = await tidepool("models", "info", "pulled");
  expect(JSON.parse(info.out)).toMatchObject({ path: added[1]?.path });
  expect((await tidepool("models", "remove", "mine")).out).toMatch(/the file stays/);
});

test("a mistake is one line and an exit code", async () => {
  for (const [code, wanted, ...args] of [
    [1, /expected a GGUF file/, "models", "add", import.meta.filename],
    [1, /expected the name of an added model .*, found nobody$/, "models", "remove", "nobody"],
    [1, /expected owner\/other on the hub/, "models", "pull", "owner/other"],
    [1, /expected a model file or one of the models .*, found nobody:/, "models", "info", "nobody"],
    [
      1,
      /expected a model file or one of the models .*, found nobody:/,
      "doctor",
      "--model",
      "nobody",
    ],
    [2, /unknown command/, "models", "frobnicate"],
  ] as const) {
    const ended = await tidepool(...args);
    expect(ended.err.trimEnd()).toMatch(wanted);
    expect(ended.err.trimEnd().split("\n")).toHaveLength(1);
    expect(ended).toMatchObject({ code, out: "" });
  }
});
