// Builds the native engine into build/native, quietly when nothing changed.
//   node scripts/native.mjs             build
//   node scripts/native.mjs --test      build and run the native tests
//   node scripts/native.mjs --sanitize  build the tests with ASan and UBSan in another folder, and run them
//   node scripts/native.mjs --arm64     compile for 64-bit ARM with Debian's cross compiler; with qemu-user, run the
//                                       tests too, without the attention_test (minutes there) unless --all is given
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sanitize = process.argv.includes("--sanitize");
const arm64 = process.argv.includes("--arm64");
const buildDir = join(
  root,
  "build",
  sanitize ? "native-sanitize" : arm64 ? "native-arm64" : "native",
);
const EMULATOR = "qemu-aarch64";

/** CMake options of a first build. */
function options() {
  if (!arm64) return [sanitize ? "-DSANITIZE=ON" : "-DSANITIZE=OFF"];
  const compilers = ["C_COMPILER=aarch64-linux-gnu-gcc", "CXX_COMPILER=aarch64-linux-gnu-g++"];
  const emulator = `CROSSCOMPILING_EMULATOR=${EMULATOR};-L;/usr/aarch64-linux-gnu`;
  return [
    "-DCUDA=OFF",
    ...["SYSTEM_NAME=Linux", "SYSTEM_PROCESSOR=aarch64", ...compilers, emulator].map(
      (option) => `-DCMAKE_${option}`,
    ),
  ];
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

const hasTool = (name) => spawnSync(name, ["--version"], { stdio: "ignore" }).error === undefined;

function requireTool(name, debianPackage) {
  if (!hasTool(name)) {
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
  if (arm64) requireTool("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu");
  else requireTool("g++", "g++");
  if (!existsSync(join(root, "node_modules", "node-api-headers"))) {
    fail('native: node_modules/node-api-headers not found: run "npm install" first');
  }
  if (!existsSync(join(buildDir, "CMakeCache.txt"))) {
    const what = sanitize ? " with sanitizers" : arm64 ? " for 64-bit ARM" : "";
    console.log(`native: first build${what}, about a minute`);
    quiet("cmake", ["-S", "engine/native", "-B", buildDir, ...options()]);
  }
  quiet("cmake", ["--build", buildDir, "--parallel", String(availableParallelism())]);
}

/** Runs ctest and prints one line per test program and one for all. */
function test() {
  const fewer = arm64 && !process.argv.includes("--all") ? ["-E", "^attention_test$"] : [];
  const result = spawnSync("ctest", ["--test-dir", buildDir, "--output-on-failure", ...fewer], {
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
if (arm64 && !hasTool(EMULATOR)) {
  console.log(
    `native: compiled for 64-bit ARM; ${EMULATOR} (qemu-user) not found, no test was run`,
  );
  console.log("native: 1 passed, 0 failed");
} else if (arm64 || sanitize || process.argv.includes("--test")) {
  test();
}
