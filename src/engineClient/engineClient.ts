// The daemon as the editor sees it: one state, requests, presence, and restarts with back-off.
import type { InfillRequest, PrefillRequest } from "../../engine/protocol/api.ts";
import { deferred, delay, whenAborted } from "../base/async.ts";
import { Emitter } from "../base/emitter.ts";
import { errorText } from "../base/errorText.ts";
import type { Disposable } from "../base/lifecycle.ts";
import type { Logger } from "../base/logger.ts";
import { backoffMs, MAX_RESTARTS } from "./backoff.ts";
import type { ConnectOptions, DaemonLink } from "./connectDaemon.ts";
import type { EngineApi, InfillOptions, InfillOutcome } from "./engineApi.ts";
import { EngineFailure } from "./engineFailure.ts";
import type { EngineState, ReadAhead } from "./engineState.ts";

/** An engine that served this long was healthy: what ends it now is a new misfortune. */
const STABLE_MS = 30_000;

export type Connect = (options: ConnectOptions) => Promise<DaemonLink>;

export class EngineClient implements EngineApi, Disposable {
  readonly #connect: Connect;
  readonly #log: Logger;
  readonly #changes = new Emitter<EngineState>();
  #state: EngineState = { kind: "stopped" };
  #link: DaemonLink | undefined;
  #running: AbortController | undefined;
  #requests = 0;
  #readAhead: ReadAhead | undefined;

  constructor(connect: Connect, log: Logger) {
    this.#connect = connect;
    this.#log = log;
  }

  get state(): EngineState {
    return this.#state;
  }

  onState(listener: (state: EngineState) => void): Disposable {
    return this.#changes.on(listener);
  }

  /** Starts or finds the daemon, unless that is under way or done. */
  start(): void {
    if (this.#running) return;
    const running = new AbortController();
    this.#running = running;
    // `#keepRunning` reports every failure as a state and does not reject.
    void this.#keepRunning(running.signal).finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
  }

  /** Leaves the daemon to its other clients; without any it ends by itself after its idle time. */
  stop(): void {
    this.#running?.abort();
    this.#running = undefined;
    this.#set({ kind: "stopped" });
  }

  /** Ends the daemon, for all its clients, and starts a new one. */
  async restart(): Promise<void> {
    const link = this.#link;
    try {
      await link?.connection.shutdown();
    } catch (error) {
      this.#log.warn(`the engine did not take the request to end: ${errorText(error)}`);
    }
    this.stop();
    this.start();
  }

  async infill(request: InfillRequest, options: InfillOptions = {}): Promise<InfillOutcome> {
    const link = this.#link;
    if (!link) {
      const failure = new EngineFailure(
        "not_ready",
        `expected a ready engine, found it ${this.#state.kind}`,
      );
      return { kind: "failed", failure };
    }
    this.#requests++;
    this.#showActivity();
    try {
      return await link.connection.infill(request, options);
    } finally {
      this.#requests--;
      this.#showActivity();
    }
  }

  async prefill(request: PrefillRequest, signal?: AbortSignal): Promise<void> {
    await this.#link?.connection.prefill(request, signal);
  }

  dispose(): void {
    this.stop();
  }

  async #keepRunning(signal: AbortSignal): Promise<void> {
    let restarts = 0;
    for (;;) {
      this.#setUnless(signal, { kind: "starting", phase: "looking for the engine" });
      const servedMs = await this.#serveOnce(signal).catch((error: unknown) =>
        this.#failed(signal, error),
      );
      if (servedMs === undefined || signal.aborted) return;
      restarts = servedMs >= STABLE_MS ? 1 : restarts + 1;
      if (restarts > MAX_RESTARTS) {
        this.#set({ kind: "failed", reason: `the engine ended ${restarts} times in a row` });
        return;
      }
      const waitMs = backoffMs(restarts);
      this.#log.warn(`the engine ended; restart ${restarts} in ${waitMs} ms`);
      this.#set({ kind: "starting", phase: "restarting the engine" });
      if (!(await delay(waitMs, signal))) return;
    }
  }

  /** One life of the daemon: resolves with how long it served, in milliseconds, when it ends or `signal` fires. */
  async #serveOnce(signal: AbortSignal): Promise<number> {
    const link = await this.#connect({
      signal,
      onPhase: (phase) => {
        this.#log.info(phase);
        this.#setUnless(signal, { kind: "starting", phase });
      },
    });
    const ended = deferred<void>();
    const presence = link.connection.presence({
      onHealth: () => undefined,
      onActivity: ({ prefill }) => {
        this.#readAhead = prefill;
        this.#showActivity();
      },
      onEnd: ended.resolve,
    });
    const stopped = whenAborted(signal);
    const since = Date.now();
    if (!signal.aborted) {
      this.#link = link;
      const { version, pid, model } = link.health;
      this.#log.info(`engine ${version} (pid ${pid}) is ready: ${model.id} on ${model.device}`);
      this.#showActivity();
    }
    await Promise.race([ended.promise, stopped.fired]);
    if (this.#link === link) this.#link = undefined;
    stopped.dispose();
    presence.dispose();
    link.connection.dispose();
    return Date.now() - since;
  }

  /** Undefined ends the loop: a daemon that says why it cannot start will say the same again. */
  #failed(signal: AbortSignal, error: unknown): number | undefined {
    if (signal.aborted) return undefined;
    const reason = errorText(error);
    this.#log.error(reason);
    if (EngineFailure.is(error, "unreachable")) return 0;
    this.#set({ kind: "failed", reason });
    return undefined;
  }

  #showActivity(): void {
    const model = this.#link?.health.model;
    const readAhead = this.#readAhead;
    const kind = this.#requests > 0 ? "working" : "ready";
    if (model) this.#set({ kind, model, ...(readAhead && { readAhead }) });
  }

  #setUnless(signal: AbortSignal, state: EngineState): void {
    if (!signal.aborted) this.#set(state);
  }

  #set(state: EngineState): void {
    const same = JSON.stringify(state) === JSON.stringify(this.#state);
    this.#state = state;
    if (!same) this.#changes.emit(state);
  }
}
