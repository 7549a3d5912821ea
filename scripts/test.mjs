// `npm test`: installs what is missing, builds, and runs every suite. All stages run even after a failure.
// The last line is `N passed, N failed` over all suites; details of a failure stand above, full output in .cache/logs.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { buildProduct } from "./lib/build.mjs";
import { fromClosingLine, fromExitCode, fromUnittest, fromVitest } from "./lib/counts.mjs";
import { lintStages } from "./lib/lintStages.mjs";
import { checkNodeVersion, ensureNodeModules } from "./lib/nodeModules.mjs";
import { inRoot } from "./lib/paths.mjs";
import { localBin, runLogged } from "./lib/runCommand.mjs";
import { Stages } from "./lib/stages.mjs";
import { ensureTools, findTool, installHint } from "./lib/systemPackages.mjs";
import { ensureVscodeServer } from "./lib/vscodeServer.mjs";

const stages = new Stages();
const held = { passed: 1, failed: 0, skipped: 0 };

/** A stage whose whole result is that `work` did not throw. */
const prepare = (name, work) =>
  stages.run(name, async () => ({ ...held, note: (await work()) ?? "" }));

/** Runs one of our own runners, which say how many tests passed in their closing line. */
async function ownRunner(name, args) {
  const result = await runLogged(`test-${name}`, process.execPath, args);
  return { ...result, ...fromClosingLine(name, result.output, result.code) };
}

async function install() {
  checkNodeVersion();
  const needed = ["compiler", "cmake", "make", "browser", "ripgrep", "unzip"];
  const tools = await ensureTools([...needed, "clangFormat"]);
  // clang-format is asked for with the others but only its own stage needs it.
  const missing = tools.missing.filter((name) => name !== "clang-format");
  if (missing.length > 0) throw new Error(installHint(missing));
  const fresh = await ensureNodeModules();
  const added = [...tools.installed, ...(fresh ? ["npm packages"] : [])];
  return added.length > 0 ? `installed ${added.join(", ")}` : "nothing to install";
}

async function vitest() {
  const reportFile = inRoot(".cache", "vitest.json");
  rmSync(reportFile, { force: true });
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${reportFile}`];
  const result = await runLogged("test-vitest", localBin("vitest"), ["run", ...reporters]);
  const report = existsSync(reportFile) ? JSON.parse(readFileSync(reportFile, "utf8")) : undefined;
  return { ...result, ...fromVitest(report, result.code) };
}

async function corpus() {
  const folder = inRoot("engine", "train", "corpus");
  const result = await runLogged("test-corpus", "python3", [
    "-m",
    "unittest",
    "discover",
    "-s",
    folder,
  ]);
  return { ...result, ...fromUnittest(result.output, result.code) };
}

/** The NEON kernels, on a machine that has the cross compiler. */
async function arm64() {
  if (!findTool({ commands: ["aarch64-linux-gnu-g++"] })) {
    const reason = "aarch64-linux-gnu-g++ (g++-aarch64-linux-gnu) is not installed";
    stages.skip("native for 64-bit ARM", reason, { optional: true });
    return;
  }
  await stages.run("native for 64-bit ARM", async () => {
    const args = [inRoot("scripts", "native.mjs"), "--arm64"];
    const result = await runLogged("test-native-arm64", process.execPath, args);
    return { ...result, ...fromClosingLine("native", result.output, result.code) };
  });
}

async function lint({ name, command, args }) {
  await stages.run(name, async () => {
    const result = await runLogged(`lint-${name.replaceAll(" ", "-")}`, command, args);
    return { ...result, ...fromExitCode(result.code) };
  });
}

async function main() {
  if (!(await prepare("install", install))) return stages.summary();
  await prepare("VS Code server", async () => void (await ensureVscodeServer()));
  await prepare("build", async () => void (await buildProduct()));
  for (const stage of lintStages()) {
    if (stage.missing === undefined) await lint(stage);
    else stages.skip(stage.name, stage.missing, { optional: true });
  }
  await stages.run("native", () =>
    ownRunner("native", [inRoot("scripts", "native.mjs"), "--test"]),
  );
  await arm64();
  await stages.run("unit, golden, e2e", vitest);
  if (findTool({ commands: ["python3"] })) await stages.run("corpus", corpus);
  else stages.skip("corpus", "python3 is not installed", { optional: true });
  await stages.run("package", packageAndCheck);
  await stages.run("start", () => ownRunner("start", [inRoot("scripts", "checkStart.mjs")]));
  await stages.run("VS Code", () => ownRunner("vscode", [inRoot("test", "vscode", "run.mjs")]));
  return stages.summary();
}

async function packageAndCheck() {
  const made = await runLogged("package", process.execPath, [inRoot("scripts", "package.mjs")]);
  if (made.code !== 0) return { ...made, ...fromExitCode(made.code) };
  return ownRunner("package", [inRoot("scripts", "checkPackage.mjs")]);
}

process.exitCode = await main();
