// Starts the system's Chromium under playwright-core. Only the start is tried again: assertions never are.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";
import { findBrowser } from "../../scripts/lib/systemPackages.mjs";

const TRIES = 3;
const QUIET = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
  ...["--disable-background-networking", "--disable-component-update"],
];

/** @returns {Promise<{page: import("playwright-core").Page, stop: () => Promise<void>}>} */
export async function startBrowser() {
  const executablePath = findBrowser();
  if (executablePath === undefined)
    throw new Error("no Chromium found: install it or set CHROMIUM");
  for (let attempt = 1; ; attempt++) {
    const profile = mkdtempSync(path.join(tmpdir(), "tidepool-chromium-"));
    const remove = () => rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    try {
      return await launch(executablePath, profile, remove);
    } catch (error) {
      remove();
      if (attempt === TRIES) throw error;
    }
  }
}

async function launch(executablePath, profile, remove) {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport: { width: 1280, height: 800 },
    args: QUIET,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const stop = async () => {
    await context.close();
    remove();
  };
  return { page, stop };
}
