/** A card that is given back when idle, and one that fails: a real daemon and its engine's process, on the emulated GPU. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import type { Health } from "../../engine/protocol/api.ts";
import { Daemon, eventually, runtimeFolder } from "../support/daemon.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";

const folder = runtimeFolder();
afterAll(folder.clean);

function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): Daemon {
  return folder.track(
    new Daemon(folder.dir, ["--device", "cuda", ...args], { ...emulatedGpu(), ...env }),
  );
}

const body = { input_prefix: "const a = ", input_suffix: "\n", n_predict: 4 };

async function health(daemon: Daemon): Promise<Health> {
  return JSON.parse((await daemon.get("/health")).text) as Health;
}

/** Processes that the daemon started. */
function childrenOf(daemon: Daemon): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ")[1] ===
          `${daemon.child.pid}`
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

test("an idle daemon gives the card back, says so, and loads again for a request that waits", async () => {
  const daemon = start(["--gpu-idle", "1"]);
  await daemon.ready();
  const first = await daemon.post("/infill", body);
  expect(first.status).toBe(200);
  expect(childrenOf(daemon).length).toBe(1);
  await eventually(
    async () => ((await health(daemon)).weights === "released" ? true : undefined),
    "the card back",
  );
  expect((await health(daemon)).status).toBe("ready");
  // The process that held the card is ended when that is said; how soon it is gone is up to the system.
  await eventually(
    () => (childrenOf(daemon).length === 0 ? true : undefined),
    "no process that holds the card",
  );
  expect((await daemon.state()).kv.bytes).toBe(0);
  const again = daemon.post("/infill", body);
  await eventually(
    async () => ((await health(daemon)).weights === "reloading" ? true : undefined),
    "a reload",
  );
  const answer = await again;
  expect(answer.status).toBe(200);
  const content = (text: string) => (JSON.parse(text) as { content: string }).content;
  expect(content(answer.text)).toBe(content(first.text));
  expect((await daemon.state()).requests).toMatchObject({ accepted: 2, finished: 2, failed: 0 });
  await daemon.kill("SIGTERM");
  expect(childrenOf(daemon)).toEqual([]);
});

describe("a GPU that fails again and again", () => {
  test("is reported in words, every request ends once, and at last the CPU takes over", async () => {
    const daemon = start([], { EMULATED_GPU_FAIL_LAUNCH: "150" });
    await daemon.ready();
    let nAnswers = 0;
    const ask = async () => {
      const answer = await daemon.post("/infill", { ...body, n_predict: 200 });
      if (answer.status !== 503) nAnswers++;
      return answer;
    };
    for (let loss = 1; loss <= 3; loss++) {
      const both = await Promise.all([ask(), ask()]);
      for (const { status, text } of both) {
        expect(status).toBe(500);
        expect(JSON.parse(text)).toMatchObject({ error: { code: "internal", retryable: true } });
        expect(text).toMatch(/an illegal memory access .*the process restarts/);
      }
      const words = loss < 3 ? /^restarted, because the GPU/ : /^on the CPU, because the GPU/;
      const after = await eventually(async () => {
        const now = await health(daemon);
        return now.status === "ready" && words.test(now.reason ?? "") ? now : undefined;
      }, `a restart after loss ${loss}`);
      expect(after.model?.device).toMatch(loss < 3 ? /^CUDA/ : /^CPU/);
      await delay(1);
    }
    expect((await ask()).status).toBe(200);
    expect((await daemon.state()).requests).toEqual({
      ...{ accepted: nAnswers, finished: 1, cancelled: 0, failed: nAnswers - 1 },
    });
    expect(daemon.output.match(/because the GPU failed/g)?.length).toBe(3);
    expect(daemon.output).toMatch(/^on the CPU, because the GPU failed repeatedly: /m);
  });
});
