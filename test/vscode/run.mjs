// `npm run test:vscode`: suites inside the extension host, then the packaged extension driven through a browser.
// Arguments choose a part: `host`, `ui`, or `typing`, which types for two minutes in the host. The last line is `vscode: N passed, N failed[, N skipped]`.
import { installForBuild } from "../../scripts/lib/build.mjs";
import { ensureTools, installHint } from "../../scripts/lib/systemPackages.mjs";
import { ensureVscodeServer } from "../../scripts/lib/vscodeServer.mjs";
import { ensureVsix } from "../../scripts/lib/vsix.mjs";

const parts = process.argv.slice(2);
const wanted = (part) => parts.length === 0 || parts.includes(part);

async function main() {
  const { missing } = await ensureTools(["browser"]);
  if (missing.length > 0) throw new Error(installHint(missing));
  await installForBuild();
  // One build serves both: the host suites run the same minified bundles that the package holds.
  const vsix = await ensureVsix();
  const serverMain = await ensureVscodeServer();
  // Not before here: these need the npm packages.
  const { bundleTests } = await import("./bundleTests.mjs");
  const { runInHost } = await import("./inHost.mjs");
  const { runUi } = await import("./runUi.mjs");
  const sum = { passed: 0, failed: 0, skipped: 0 };
  const add = (result) => {
    for (const line of result.lines) process.stdout.write(`${line}\n`);
    for (const key of Object.keys(sum)) sum[key] += result[key];
  };
  if (wanted("host")) add(await runInHost({ serverMain, testsPath: await bundleTests() }));
  if (parts.includes("typing")) {
    Object.assign(process.env, { TIDEPOOL_TEST_ONLY: "typing", TIDEPOOL_TYPING_SECONDS: "120" });
    add(await runInHost({ serverMain, testsPath: await bundleTests() }));
  }
  if (wanted("ui")) add(await runUi({ serverMain, vsix: vsix.path }));
  return sum;
}

try {
  const { passed, failed, skipped } = await main();
  process.stdout.write(
    `vscode: ${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`,
  );
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
} catch (error) {
  process.stdout.write(`${error.stack}\nvscode: 0 passed, 1 failed\n`);
  process.exit(1);
}
