// Finds the daemon of this user, or starts it, and waits until it is ready.
import type { Health, LockFile } from "../../engine/protocol/api.ts";
import { delay } from "../base/async.ts";
import { judge, type Requirements } from "./compatibility.ts";
import { EngineConnection } from "./connection.ts";
import { type DaemonExit, DaemonProcess, type LaunchPlan } from "./daemonProcess.ts";
import { EngineFailure } from "./engineFailure.ts";

export interface DaemonPlan {
  launch: LaunchPlan;
  needed: Requirements;
  /** Reads the lock file of the runtime folder; undefined when there is none that can be read. */
  readLock: () => LockFile | undefined;
  /** How the daemon is started; tests give their own. */
  start?: (plan: LaunchPlan) => Launched;
}

export type Launched = Pick<DaemonProcess, "exit" | "release">;

export interface DaemonLink {
  connection: EngineConnection;
  health: Health & { model: NonNullable<Health["model"]> };
}

export interface ConnectOptions {
  signal: AbortSignal;
  /** Called when the phase changes, in words for the user. */
  onPhase?: (phase: string) => void;
}

/** A cold start takes about a second; a model read from a slow disk much longer. */
const START_TIMEOUT_MS = 60_000;
/** A daemon that lost the race to another ends with code 0; the winner's lock appears within this time. */
const MAX_LAUNCHES = 3;
const POLL_MS = 20;

/**
 * Resolves with a connection to a ready daemon that fits `plan.needed`.
 * Rejects with `start_failed` (it ended, or says that it failed), `unsupported` (it is newer than this client)
 * or `unreachable` (not ready in time, or `signal` fired).
 */
export async function connectDaemon(
  plan: DaemonPlan,
  options: ConnectOptions,
): Promise<DaemonLink> {
  const search = new DaemonSearch(plan, options);
  try {
    return await search.run();
  } finally {
    search.release();
  }
}

class DaemonSearch {
  readonly #plan: DaemonPlan;
  readonly #options: ConnectOptions;
  #launched: Launched | undefined;
  #launches = 0;
  #phase = "";
  /** Processes that were asked to end; their lock counts no more. */
  readonly #leaving = new Set<number>();

  constructor(plan: DaemonPlan, options: ConnectOptions) {
    this.#plan = plan;
    this.#options = options;
  }

  async run(): Promise<DaemonLink> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline) {
      const link = await this.#look();
      if (link) return link;
      if (!(await delay(POLL_MS, this.#options.signal))) break;
    }
    const why = this.#options.signal.aborted
      ? "the start was cancelled"
      : `found it still ${this.#phase}`;
    throw new EngineFailure(
      "unreachable",
      `expected the engine to be ready within ${START_TIMEOUT_MS / 1000} s: ${why}`,
    );
  }

  release(): void {
    this.#launched?.release();
  }

  /** One look at the lock: a link when the daemon is ready, else undefined after doing what brings it nearer. */
  async #look(): Promise<DaemonLink | undefined> {
    const lock = this.#plan.readLock();
    if (lock) {
      const connection = new EngineConnection(lock.socket);
      const health = await answerOf(connection);
      const link = health && (await this.#assess(connection, health));
      if (link) return link;
      connection.dispose();
      if (health) return undefined;
    }
    this.#ensureLaunched();
    return undefined;
  }

  async #assess(connection: EngineConnection, health: Health): Promise<DaemonLink | undefined> {
    const verdict = judge(health, this.#plan.needed);
    if (verdict.kind === "refuse") throw new EngineFailure("unsupported", verdict.why);
    if (verdict.kind === "replace" || this.#isLeftOver(health)) {
      await this.#dismiss(
        connection,
        health,
        verdict.kind === "replace" ? verdict.why : "it had failed",
      );
      return undefined;
    }
    switch (health.status) {
      case "ready":
        if (!health.model)
          throw new EngineFailure("bad_answer", "expected a model from a ready engine, found none");
        return { connection, health: { ...health, model: health.model } };
      case "failed":
        throw new EngineFailure(
          "start_failed",
          health.reason ?? "the engine failed and gave no reason",
        );
      case "loading":
        this.#tell("loading the model");
        return undefined;
      case "draining":
        this.#tell("waiting for the previous engine to end");
        return undefined;
    }
  }

  /** A daemon that failed before this search began is worth one more try with a new process. */
  #isLeftOver(health: Health): boolean {
    return health.status === "failed" && this.#launched === undefined;
  }

  async #dismiss(connection: EngineConnection, health: Health, why: string): Promise<void> {
    this.#tell(`replacing the engine: ${why}`);
    if (this.#leaving.has(health.pid)) return;
    this.#leaving.add(health.pid);
    await connection.shutdown().catch((error: unknown) => {
      // It may have ended before it could answer, which is what was asked.
      if (!EngineFailure.is(error, "unreachable")) throw error;
    });
  }

  #ensureLaunched(): void {
    const exit = this.#launched?.exit;
    if (this.#launched && !exit) return;
    // Code 0 says that another daemon runs; should that one have ended meanwhile, ours is needed after all.
    if (exit && exit.code !== 0) throw failedStart(exit);
    if (this.#launches === MAX_LAUNCHES) {
      throw new EngineFailure(
        "unreachable",
        `expected a running engine after ${MAX_LAUNCHES} starts, found none`,
      );
    }
    this.#launches++;
    this.#tell("starting the engine");
    const { launch, start } = this.#plan;
    this.#launched = start ? start(launch) : new DaemonProcess(launch);
  }

  #tell(phase: string): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    this.#options.onPhase?.(phase);
  }
}

async function answerOf(connection: EngineConnection): Promise<Health | undefined> {
  try {
    return await connection.health();
  } catch (error) {
    // A lock whose socket does not answer is stale: the next daemon takes it over.
    if (EngineFailure.is(error, "unreachable")) return undefined;
    throw error;
  }
}

function failedStart(exit: DaemonExit): EngineFailure {
  if (exit.signal)
    return new EngineFailure(
      "unreachable",
      `the engine was ended by ${exit.signal} while starting`,
    );
  const what =
    exit.message || `the engine ended with exit code ${exit.code ?? "unknown"} and wrote no reason`;
  return new EngineFailure("start_failed", what);
}
