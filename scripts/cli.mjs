// `npm run -s tidepool -- …`: the command-line client of this checkout, built on its first use.
import { spawn } from "node:child_process";
import { buildProduct, installForBuild, isBuilt } from "./lib/build.mjs";
import { inRoot } from "./lib/paths.mjs";

if (!isBuilt()) {
  try {
    await installForBuild();
    await buildProduct();
  } catch (error) {
    process.stderr.write(`tidepool: the build failed: ${error.message}\n`);
    process.exit(1);
  }
}

const child = spawn(process.execPath, [inRoot("dist", "cli.js"), ...process.argv.slice(2)], {
  stdio: "inherit",
});
// A terminal sends its signals to both; one sent to this process alone must reach the client too.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => child.kill(signal));
}
child.once("error", (error) => {
  process.stderr.write(`tidepool: the client does not start: ${error.message}\n`);
  process.exitCode = 1;
});
child.once("exit", (code, signal) => {
  if (signal === null) process.exitCode = code;
  else {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  }
});
