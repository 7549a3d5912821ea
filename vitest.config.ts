import { join } from "node:path";
import { defineConfig } from "vitest/config";

/** Three tiers in one runner; native, GPU and VS Code suites have their own scripts (CONTRIBUTING.md). */
export default defineConfig({
  test: {
    maxWorkers: "100%",
    projects: [
      {
        resolve: { alias: { vscode: join(import.meta.dirname, "test/support/fakeEditor.ts") } },
        test: {
          name: "unit",
          // Half of the time of unit tests was loading the same modules for each file. A test leaves them as it found them.
          isolate: false,
          include: ["{src,engine}/**/*.test.ts", "{scripts,test/vscode}/**/*.test.mjs"],
        },
      },
      { test: { name: "golden", include: ["test/golden/**/*.test.ts"] } },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
