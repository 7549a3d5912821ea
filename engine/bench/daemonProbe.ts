/** A daemon of its own runtime folder, started to be measured and stopped afterwards. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import type { KvCacheFormat } from "../backend/params.ts";
import { askHealth, askState } from "../base/daemonClient.ts";
import { EngineError } from "../base/errors.ts";
import { askSocket } from "../base/socketRequest.ts";
import type { DeviceWish } from "../model/loadModel.ts";
import type { InfillRequest } from "../protocol/api.ts";
import { socketPath } from "../protocol/runtime.ts";

export interface DaemonProbeOptions {
  script: string;
  modelPath: string;
  threads: number;
  device: DeviceWish;
  kvCache: KvCacheFormat;
}

const answerSchema = v.object({
  tokens_predicted: v.number(),
  timings: v.object({ predicted_ms: v.number() }),
});

const POLL_MS = 3;
const READY_MS = 30_000;
const EXIT_MS = 5_000;

export interface InfillTimes {
  nTokens: number;
  /** From the first token to the last, by the engine's clock. */
  decodeMs: number;
  /** From the request until the whole answer was here. */
  ms: number;
}

export class DaemonProbe {
  /** From the start of the process until it answered that it is ready. */
  readonly readyMs: number;
  private readonly child: ChildProcess;
  private readonly dir: string;

  private constructor(child: ChildProcess, dir: string, readyMs: number) {
    this.child = child;
    this.dir = dir;
    this.readyMs = readyMs;
  }

  /** Starts a daemon and waits until it is ready. Throws `environment` with the daemon's own reason when it fails. */
  static async start({
    script,
    modelPath,
    threads,
    device,
    kvCache,
  }: DaemonProbeOptions): Promise<DaemonProbe> {
    const dir = mkdtempSync(join(tmpdir(), "tidepool-bench-"));
    const startedAt = performance.now();
    const child = spawn(
      process.execPath,
      [
        ...[script, "serve", "--model", modelPath, "--device", device],
        ...["--kv-cache", kvCache, "--threads", String(threads), "--idle-exit", "60"],
      ],
      {
        env: { ...process.env, ELECTRON_RUN_AS_NODE: "1", TIDEPOOL_RUNTIME_DIR: dir },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    let hasEnded = false;
    for (const event of ["exit", "error"])
      child.once(event, () => {
        hasEnded = true;
      });
    try {
      await untilReady(dir, () => (hasEnded ? stderr.trim() || "the process ended" : undefined));
      return new DaemonProbe(child, dir, performance.now() - startedAt);
    } catch (error) {
      child.kill("SIGKILL");
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /** A completion, whole or as a stream. */
  async infill(body: InfillRequest): Promise<InfillTimes> {
    const startedAt = performance.now();
    const { status, text } = await askSocket(socketPath(this.dir), "/infill", body);
    const ms = performance.now() - startedAt;
    if (status !== 200)
      throw new EngineError("internal", `expected a completion, found HTTP ${status}: ${text}`);
    const answer = v.parse(answerSchema, JSON.parse(body.stream ? lastEvent(text) : text));
    return { nTokens: answer.tokens_predicted, decodeMs: answer.timings.predicted_ms, ms };
  }

  /** Resident memory. Throws when the daemon does not answer. */
  async rssBytes(): Promise<number> {
    const state = await askState(socketPath(this.dir));
    if (state === undefined)
      throw new EngineError("environment", "expected the daemon's state, found no answer");
    return state.memory.rssBytes;
  }

  /** Asks the daemon to end, and ends it when it does not. */
  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.child.once("exit", () => resolve()));
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), EXIT_MS);
    if (this.child.exitCode === null && this.child.signalCode === null) await ended;
    clearTimeout(timer);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

async function untilReady(dir: string, failure: () => string | undefined): Promise<void> {
  const deadline = performance.now() + READY_MS;
  while (performance.now() < deadline) {
    const reason = failure();
    if (reason !== undefined)
      throw new EngineError("environment", `expected a daemon to start, found: ${reason}`);
    const health = await askHealth(socketPath(dir));
    if (health?.status === "ready") return;
    if (health?.status === "failed")
      throw new EngineError("environment", `the daemon failed: ${health.reason ?? "no reason"}`);
    await sleep(POLL_MS);
  }
  throw new EngineError("environment", `expected a ready daemon within ${READY_MS} ms, found none`);
}

/** Data of the last server-sent event of a whole stream. */
function lastEvent(stream: string): string {
  const line = stream.split("\n").findLast((text) => text.startsWith("data: "));
  return line?.slice("data: ".length) ?? "";
}
