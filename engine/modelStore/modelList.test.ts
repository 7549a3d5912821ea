import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { modelListPath, readAddedModels, resolveModel } from "../protocol/modelNames.ts";
import { modelFacts } from "./modelFacts.ts";
import { addModel, listModels, removeModel, type StoreFolders } from "./modelList.ts";

const tiny = join(import.meta.dirname, "../../test/fixtures/vectors/tiny-f32.gguf");
let root: string;
let folders: StoreFolders;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "tidepool-models-"));
  folders = { bundled: join(root, "bundled"), data: join(root, "data") };
  mkdirSync(folders.bundled);
  copyFileSync(tiny, join(folders.bundled, "small.gguf"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const resolve = (text: string) => resolveModel(text, folders.bundled, folders.data);

test("a model file says its size, quantisation, context and training", () => {
  const facts = modelFacts(tiny, 4 * 1024 ** 3);
  expect(facts).toMatchObject({
    quantisation: "F32",
    contextLength: 16384,
    fimTrained: true,
    fits: true,
  });
  expect(modelFacts(tiny, 1024).fits).toBe(false);
});

test("added models are listed behind the bundled ones and found by name", () => {
  addModel(folders, tiny, { name: "mine", source: "file" });
  expect(listModels(folders).map(({ name, source }) => [name, source])).toEqual([
    ["small", "bundled"],
    ["mine", "file"],
  ]);
  expect(resolve("mine")).toBe(tiny);
  expect(resolve("small")).toBe(join(folders.bundled, "small.gguf"));
  expect(resolve(tiny)).toBe(tiny);
  expect(() => resolve("other")).toThrow(/one of the models small, mine, found other/);
});

test("a name is given once", () => {
  expect(() => addModel(folders, tiny, { name: "small", source: "file" })).toThrow(/--name/);
  addModel(folders, tiny, { name: "mine", source: "file" });
  addModel(folders, tiny, { name: "mine", source: "file" });
  expect(readAddedModels(folders.data)).toHaveLength(1);
  expect(() => addModel(folders, resolve("small"), { name: "mine", source: "file" })).toThrow(
    /mine/,
  );
  expect(() => addModel(folders, tiny, { name: "a/b", source: "file" })).toThrow(/without slash/);
});

test("removing deletes a copy and leaves the user's file alone", () => {
  addModel(folders, tiny, { name: "mine", source: "file" });
  const copy = addModel(folders, tiny, { name: "copy", source: "copy" });
  expect(existsSync(copy.path)).toBe(true);
  removeModel(folders, "copy");
  removeModel(folders, "mine");
  expect(existsSync(copy.path)).toBe(false);
  expect(existsSync(tiny)).toBe(true);
  expect(() => removeModel(folders, "mine")).toThrow(/\(none\), found mine$/);
  expect(() => removeModel(folders, "small")).toThrow(/which is bundled/);
});

test("a file that is no model is refused, and one that vanished is listed as unusable", () => {
  const path = join(root, "gone.gguf");
  writeFileSync(path, "not a model");
  expect(() => addModel(folders, path, { source: "file" })).toThrow(/expected a GGUF file/);
  copyFileSync(tiny, path);
  addModel(folders, path, { source: "file" });
  rmSync(path);
  expect(listModels(folders)[1]?.problem).toMatch(/ENOENT/);
});

test("a damaged list says what to do", () => {
  mkdirSync(folders.data);
  writeFileSync(modelListPath(folders.data), "{");
  expect(() => readAddedModels(folders.data)).toThrow(/remove the file and add them again/);
});
