import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ContextGuard } from "./contextGuard.ts";

let root: string;

beforeEach(() => {
  root = join(mkdtempSync(join(tmpdir(), "tidepool-guard-")), "project");
  mkdirSync(root);
});

afterEach(() => {
  vi.useRealTimers();
  rmSync(dirname(root), { recursive: true, force: true });
});

function write(path: string, content: string | Buffer = "content\n"): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}

async function outcome(path: string, guard = new ContextGuard({ root })): Promise<string> {
  const found = await guard.read(path);
  return found.kind === "allowed" ? "allowed" : found.reason;
}

test("reads a plain source file with its time", async () => {
  write("src/a.ts");
  const found = await new ContextGuard({ root }).read("src/a.ts");
  expect(found).toMatchObject({ kind: "allowed", file: { text: "content\n" } });
});

test("ignores exactly what git ignores", async () => {
  execFileSync("git", ["init", "-q", root]);
  write(
    ".gitignore",
    "*.log\n/build/\n!keep.log\nout/*\n!out/kept.ts\n# comment\n\\#odd.ts\ndeep/**/x.ts\n",
  );
  write("sub/.gitignore", "local.ts\n!wanted.log\n");
  write(".git/info/exclude", "private.ts\n");
  const paths = [
    ...["a.log", "keep.log", "build/a.ts", "sub/build/a.ts", "out/a.ts", "out/kept.ts", "#odd.ts"],
    ...["deep/x.ts", "deep/a/b/x.ts", "deep/a/y.ts", "sub/local.ts", "local.ts", "sub/wanted.log"],
    ...["sub/other.log", "private.ts", "sub/private.ts", "BUILD/a.ts", "plain.ts"],
  ];
  for (const path of paths) write(path);
  const guard = new ContextGuard({ root });
  const ours = [];
  for (const path of paths) if ((await outcome(path, guard)) === "git-ignored") ours.push(path);
  const asked = execFileSync("git", ["-C", root, "check-ignore", "--stdin"], {
    input: paths.join("\n"),
    encoding: "utf8",
  });
  const gits = asked
    .trim()
    .split("\n")
    .map((line) => (line.startsWith('"') ? (JSON.parse(line) as string) : line));
  expect(ours).toEqual(gits);
  expect(ours.length).toBeGreaterThan(6);
  const readable = paths.filter((path) => !gits.includes(path));
  const listed = await guard.list();
  expect(listed.filter((path) => !path.endsWith(".gitignore"))).toEqual(readable.sort());
});

test("follows the rules of a repository around the workspace folder", async () => {
  execFileSync("git", ["init", "-q", root]);
  write(".gitignore", "generated/\n");
  write("app/generated/a.ts");
  write("app/b.ts");
  const guard = new ContextGuard({ root: join(root, "app") });
  expect(await outcome("generated/a.ts", guard)).toBe("git-ignored");
  expect(await guard.list()).toEqual(["b.ts"]);
});

test("takes .tidepoolignore at every level, and .gitignore cannot take it back", async () => {
  write(".tidepoolignore", "customers/\n*.sql\n");
  write("sub/.tidepoolignore", "own.ts\n");
  write(".gitignore", "!customers/\n");
  for (const path of ["customers/a.ts", "sub/b.sql", "sub/own.ts", "own.ts"]) write(path);
  const guard = new ContextGuard({ root });
  expect(await outcome("customers/a.ts", guard)).toBe("tidepool-ignored");
  expect(await outcome("sub/b.sql", guard)).toBe("tidepool-ignored");
  expect(await outcome("sub/own.ts", guard)).toBe("tidepool-ignored");
  expect(await outcome("own.ts", guard)).toBe("allowed");
});

test("sees changed rules after a second", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  write("a.ts");
  const guard = new ContextGuard({ root });
  expect(await outcome("a.ts", guard)).toBe("allowed");
  write(".tidepoolignore", "a.ts\n");
  vi.setSystemTime(Date.now() + 1001);
  expect(await outcome("a.ts", guard)).toBe("tidepool-ignored");
});

test.each([
  ...[
    ".env",
    ".env.local",
    "prod.env",
    ".npmrc",
    ".netrc",
    "id_rsa",
    "id_ed25519.pub",
    "a.pem",
    "tls.KEY",
  ],
  ...[
    "credentials.json",
    "secrets.yaml",
    ".aws/config",
    ".ssh/config",
    "kubeconfig",
    ".git/config",
  ],
  ...[
    "service-account-prod.json",
    "main.tfstate",
    ".docker/config.json",
    "store.jks",
    "deep/.pypirc",
  ],
])("never reads %s", async (path) => {
  write(path);
  expect(await outcome(path)).toBe("secret-name");
  expect(await new ContextGuard({ root }).refusalOfOpenFile(path, "", 0)).toBe("secret-name");
});

test.each(["environment.ts", "keyboard.ts", "monkey.go", "tokenizer.py", "keys.rs", "env.d.ts"])(
  "reads %s, which only sounds like a secret",
  async (path) => {
    write(path);
    expect(await outcome(path)).toBe("allowed");
  },
);

describe("what lies elsewhere or is no text", () => {
  test("refuses binaries, large files and what is missing", async () => {
    write("binary.ts", Buffer.from([65, 0, 66]));
    write("limit.ts", "x".repeat(1024 * 1024));
    write("large.ts", "x".repeat(1024 * 1024 + 1));
    expect(await outcome("binary.ts")).toBe("binary");
    expect(await outcome("limit.ts")).toBe("allowed");
    expect(await outcome("large.ts")).toBe("large");
    expect(await outcome("missing.ts")).toBe("unreadable");
    expect(await outcome(".")).toBe("unreadable");
  });

  test("follows no symbolic link out of the folder, and none to a file that may not be read", async () => {
    writeFileSync(join(root, "..", "outside.ts"), "x");
    write(".env", "x");
    write("real.ts");
    symlinkSync("../outside.ts", join(root, "out.ts"));
    symlinkSync(".env", join(root, "harmless.ts"));
    symlinkSync("real.ts", join(root, "fine.ts"));
    expect(await outcome("out.ts")).toBe("outside");
    expect(await outcome("../outside.ts")).toBe("outside");
    expect(await outcome("harmless.ts")).toBe("secret-name");
    expect(await outcome("fine.ts")).toBe("allowed");
    const guard = new ContextGuard({ root });
    expect(await guard.refusalOfOpenFile("harmless.ts", "", 0)).toBe("secret-name");
    expect(await guard.list()).toEqual(["real.ts"]);
  });

  test("reads nothing of another workspace folder inside this one", async () => {
    write("other/a.ts");
    write("own/a.ts");
    const guard = new ContextGuard({ root, otherRoots: [join(root, "other"), dirname(root)] });
    expect(await outcome("other/a.ts", guard)).toBe("other-root");
    expect(await guard.list()).toEqual(["own/a.ts"]);
  });

  test("reads and lists nothing in an untrusted workspace, where the open file is still the user's", async () => {
    write("a.ts");
    const guard = new ContextGuard({ root, trusted: false });
    expect(await outcome("a.ts", guard)).toBe("untrusted");
    expect(await guard.list()).toEqual([]);
    expect(await guard.refusalOfOpenFile("a.ts", "", 0)).toBeUndefined();
  });
});

test("looks for secrets in the text of files and of the open document", async () => {
  const text = `const key = "${"AKIA"}${"QWERTYUIOPASDFGH"}";\n`;
  write("a.ts", text);
  expect(await outcome("a.ts")).toBe("secret-text");
  const guard = new ContextGuard({ root });
  expect(await guard.refusalOfOpenFile("new.ts", text, 3)).toBe("secret-text");
  expect(await guard.refusalOfOpenFile("new.ts", "const key = 1;\n", 3)).toBeUndefined();
});
