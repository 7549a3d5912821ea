// Serves a real VS Code in the browser with the packaged extension, until it is told to stop.
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { cacheDir } from "./paths.mjs";
import { step } from "./progress.mjs";
import { installExtension, startVscode, workbenchUrl, writeSettings } from "./vscodeProcess.mjs";
import { ensureVscodeServer } from "./vscodeServer.mjs";

/** Serves until `ended` settles, then stops the server; rejects when the server ends by itself. */
export async function serveUntil(ended, { vsix, workspace, runtimeDir, port }) {
  const serverMain = await step("prepare VS Code", ensureVscodeServer);
  const data = path.join(cacheDir, "start");
  mkdirSync(data, { recursive: true });
  writeSettings(data);
  await step("install the extension", () =>
    installExtension({ serverMain, data, vsix: vsix.path }),
  );
  // Without a token every page in the user's browser could reach this server's terminal.
  const token = randomBytes(16).toString("hex");
  const env = { TIDEPOOL_RUNTIME_DIR: runtimeDir };
  const server = await startVscode({ serverMain, data, token, port, env });
  try {
    const url = workbenchUrl({ port: server.port, folder: workspace, token });
    process.stdout.write(`\nVS Code with Tidepool: ${url}\n`);
    process.stdout.write(
      "Open inventory.py and type at the end of a line; Tab accepts. Ctrl-C ends.\n",
    );
    const died = server.exited.then(() => {
      throw new Error(`the VS Code server ended by itself: ${server.log().trim().slice(-300)}`);
    });
    await Promise.race([ended, died]);
    // Its end is now wanted.
    died.catch(() => undefined);
  } finally {
    await server.stop();
  }
  process.stdout.write("\nstopped\n");
}
