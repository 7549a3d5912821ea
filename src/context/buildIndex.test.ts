import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TempWorkspace } from "../../test/support/tempWorkspace.ts";
import { buildRepositoryIndex, LiveIndex } from "./buildIndex.ts";
import type { RepositoryIndex } from "./repositoryIndex.ts";
import { retrieve } from "./retrieve.ts";

let workspace: TempWorkspace;

beforeEach(() => {
  workspace = new TempWorkspace();
});

afterEach(() => workspace.clean());

/** Everything that an index knows, without the numbers of its names. */
function facts(index: RepositoryIndex): unknown {
  const nameOf = (id: number) => (id < 0 ? "" : index.names.textOf(id));
  return [...index.files.values()]
    .sort((a, b) => (a.path < b.path ? -1 : 1))
    .map(({ ids, distinct, definitions, slot: _, ...file }) => ({
      ...file,
      ids: [...ids].map(nameOf),
      distinct: [...distinct].map(nameOf),
      definitions: definitions.map(({ file: _, ...definition }) => ({
        ...definition,
        name: nameOf(definition.name),
        container: nameOf(definition.container),
      })),
      listed: [...distinct].map((name) => index.postings.get(name)?.map(({ path }) => path)),
    }));
}

const QUESTIONS = [
  { path: "new.ts", text: 'import { Area1 } from "./m1";\nconst a = new Area1().' },
  { path: "m2.ts", text: "export class Area2 {\n  read2(part: Area0) {\n    part." },
  { path: "p3.py", text: "from m import total4\n\ndef sum3(area):\n    return total" },
];

/** What the index gives for some cursors. */
function answers(index: RepositoryIndex): unknown {
  return QUESTIONS.map(({ path, text }) => {
    const { ms: _, ...found } = retrieve(index, { path, text, offset: text.length }, 300);
    return found;
  });
}

const fresh = () => buildRepositoryIndex({ root: workspace.root });

async function expectAsFromScratch(index: RepositoryIndex): Promise<void> {
  const scratch = await fresh();
  expect(facts(index)).toEqual(facts(scratch));
  expect(answers(index)).toEqual(answers(scratch));
}

const script = (i: number, extra = "") =>
  `import { Area${i + 1} } from "./m${i + 1}";\n/** Area. */\nexport class Area${i} {\n  size${i} = ${i};\n` +
  `  read${i}(other: Area${i + 1}): number {\n    return other.size${i + 1} + this.size${i};\n  }\n}\n${extra}`;
const python = (i: number) =>
  `def total${i}(area):\n    return area.size${i} + total${i + 1}(area)\n`;

/** Numbers from 0 to below `end`, the same in every run. */
function numbers(seed: number): (end: number) => number {
  let state = seed;
  return (end) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * end);
  };
}

test("finds definitions with their place, comment and container", async () => {
  workspace.write("m1.ts", script(1));
  const index = await fresh();
  const read = index.definitions.get(index.names.find("read1") ?? -1)?.[0];
  expect(read).toMatchObject({
    kind: "method",
    line: 4,
    endLine: 6,
    text: "  read1(other: Area2): number {",
  });
  expect(index.names.textOf(read?.container ?? -1)).toBe("Area1");
  const area = index.definitions.get(index.names.find("Area1") ?? -1)?.[0];
  expect(area).toMatchObject({ kind: "class", docLine: 1, line: 2, container: -1 });
});

describe("an index that follows its files", () => {
  test.each([1, 2, 3])("is as from scratch after any changes (seed %i)", async (seed) => {
    const next = numbers(seed);
    for (let i = 0; i < 6; i++) workspace.write(`m${i}.ts`, script(i));
    const live = new LiveIndex({ root: workspace.root });
    await live.refresh();
    for (let step = 0; step < 40; step++) {
      const i = next(6);
      const path = next(3) === 0 ? `deep/er/p${i}.py` : `m${i}.ts`;
      const kind = next(4);
      if (kind === 0) workspace.remove(path);
      else workspace.write(path, path.endsWith(".py") ? python(i) : script(i, `let v${step};\n`));
      if (kind === 3) await live.edit(path, "export class Unsaved {}\n");
      if (next(5) === 0) await live.refresh();
      else await live.follow([path]);
    }
    await expectAsFromScratch(live.index);
  });

  test("sees the text of an editor, until the file is read again", async () => {
    workspace.write("m1.ts", script(1));
    const live = new LiveIndex({ root: workspace.root });
    await live.refresh();
    await live.edit("m1.ts", "export class Unsaved {}\n");
    const names = () => live.index.files.get("m1.ts")?.definitions.map(({ text }) => text);
    expect(names()).toEqual(["export class Unsaved {}"]);
    await live.follow(["m1.ts"]);
    await expectAsFromScratch(live.index);
  });

  test("follows folders that come, go and become ignored", async () => {
    workspace.write("m1.ts", script(1));
    const live = new LiveIndex({ root: workspace.root });
    await live.refresh();
    workspace.write("lib/in/m2.ts", script(2));
    await live.follow(["lib"]);
    expect([...live.index.files.keys()]).toEqual(["m1.ts", "lib/in/m2.ts"]);
    workspace.write(".gitignore", "lib/\n");
    await live.follow([".gitignore"]);
    expect([...live.index.files.keys()].sort()).toEqual([".gitignore", "m1.ts"]);
    workspace.remove(".gitignore");
    await live.follow([".gitignore"]);
    expect(live.index.files.has("lib/in/m2.ts")).toBe(true);
    workspace.remove("lib");
    await live.follow(["lib"]);
    await expectAsFromScratch(live.index);
    expect(live.index.files.size).toBe(1);
  });

  test("never takes what belongs to git or to installed packages", async () => {
    const live = new LiveIndex({ root: workspace.root });
    for (const path of [".git/HEAD", ".git/COMMIT_EDITMSG", "a/node_modules/b/index.js"])
      workspace.write(path, "const hidden = 1;\n");
    await live.refresh();
    await live.follow([".git/HEAD", ".git/COMMIT_EDITMSG", "a/node_modules/b/index.js", ".git"]);
    await live.edit("a/node_modules/b/index.js", "const hidden = 1;\n");
    expect(live.index.files.size).toBe(0);
  });
});

describe("an index that was kept on disk", () => {
  test("is as from scratch, and reads only what changed since", async () => {
    for (let i = 0; i < 5; i++) workspace.write(`m${i}.ts`, script(i));
    const options = { root: workspace.root, storeFolder: workspace.storeFolder };
    await buildRepositoryIndex(options);
    workspace.write("m2.ts", script(2, "export let later = 1;\n"));
    workspace.write("p3.py", python(3));
    workspace.remove("m4.ts");
    const done: number[] = [];
    const index = await buildRepositoryIndex({ ...options, onProgress: (_, of) => done.push(of) });
    await expectAsFromScratch(index);
    expect(done).toEqual([2, 2]);
  });

  test("is of no use where the folder cannot be written to", async () => {
    workspace.write("m1.ts", script(1));
    workspace.write("file", "");
    const storeFolder = join(workspace.root, "file", "store");
    await expectAsFromScratch(await buildRepositoryIndex({ root: workspace.root, storeFolder }));
  });
});

test("an untrusted workspace gives nothing", async () => {
  workspace.write("m1.ts", script(1));
  const live = new LiveIndex({ root: workspace.root, trusted: false });
  await live.refresh();
  await live.follow(["m1.ts"]);
  await live.edit("m1.ts", script(1));
  expect(live.index.files.size).toBe(0);
});

test("an empty folder and one that is not there give nothing", async () => {
  mkdirSync(join(workspace.root, "empty"));
  expect((await fresh()).files.size).toBe(0);
  const nowhere = await buildRepositoryIndex({ root: join(workspace.root, "nowhere") });
  expect(nowhere.files.size).toBe(0);
});
