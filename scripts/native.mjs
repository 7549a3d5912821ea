// Builds the native engine into build/native, quietly when nothing changed.
//   node scripts/native.mjs             build
//   node scripts/native.mjs --test      build and run the native tests
//   node scripts/native.mjs --sanitize  build the tests with ASan and UBSan in another folder, and run them
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sanitize = process.argv.includes("--sanitize");
const buildDir = join(root, "build", sanitize ? "native-sanitize" : "native");

function fail(message) {
  console.error(message);
  process.exit(1);
}

function requireTool(name, debianPackage) {
  if (spawnSync(name, ["--version"], { stdio: "ignore" }).error !== undefined) {
    fail(`native: ${name} not found: install it with "apt-get install ${debianPackage}"`);
  }
}

/** Runs a tool without output; prints what it said only when it failed. */
function quiet(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 26 });
  if (result.status === 0) return;
  process.stderr.write(`${result.stdout ?? ""}${result.stderr ?? ""}`);
  fail(`native: "${command} ${args.join(" ")}" failed`);
}

function build() {
  requireTool("cmake", "cmake");
  requireTool("g++", "g++");
  if (!existsSync(join(root, "node_modules", "node-api-headers"))) {
    fail('native: node_modules/node-api-headers not found: run "npm install" first');
  }
  if (!existsSync(join(buildDir, "CMakeCache.txt"))) {
    console.log(`native: first build${sanitize ? " with sanitizers" : ""}, about a minute`);
    quiet("cmake", [
      "-S",
      "engine/native",
      "-B",
      buildDir,
      sanitize ? "-DSANITIZE=ON" : "-DSANITIZE=OFF",
    ]);
  }
  quiet("cmake", ["--build", buildDir, "--parallel", String(availableParallelism())]);
}

/** Runs ctest and prints one line per test program and one for all. */
function test() {
  const result = spawnSync("ctest", ["--test-dir", buildDir, "--output-on-failure"], {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
  const lines = (result.stdout ?? "").split("\n");
  const outcomes = lines.flatMap((line) => {
    const match = /^ *\d+\/\d+ +Test +#\d+: (\S+) \.*\s*(.*?) +([\d.]+) sec/.exec(line);
    return match === null
      ? []
      : [{ name: match[1], passed: match[2] === "Passed", seconds: match[3] }];
  });
  for (const { name, passed, seconds } of outcomes) {
    console.log(`native: ${passed ? "pass" : "FAIL"} ${name} (${seconds} s)`);
  }
  const failed = outcomes.filter((outcome) => !outcome.passed).length;
  const broken = outcomes.length === 0 || (result.status !== 0 && failed === 0);
  if (failed > 0 || broken) process.stderr.write(`${result.stdout ?? ""}${result.stderr ?? ""}\n`);
  console.log(`native: ${outcomes.length - failed} passed, ${failed + (broken ? 1 : 0)} failed`);
  if (failed > 0 || broken) process.exit(1);
}

build();
if (sanitize || process.argv.includes("--test")) test();
