/**
 * The engine as the HTTP thread sees it: everything is a message, so nothing here waits for arithmetic.
 *
 *   loading ─► ready ─ idle ─► (ready, released) ─ request ─► (ready, reloading) ─► ready
 *      ▲         └─ device lost ─► everybody who waits hears it ─┐
 *      └──────────── after a while, at last on the CPU ──────────┘
 */
import { EngineError, type EngineErrorCode } from "./base/errors.ts";
import type { EngineActivity, EngineOptions, EngineStats, GenerationInput } from "./engine.ts";
import {
  type EngineHost,
  type HostKind,
  hostKindFor,
  type StartHost,
  startHost,
} from "./engineHost.ts";
import type { EngineQuestions, FromEngine, QuestionName, ToEngine } from "./engineMessages.ts";
import type { EnginePhase, Health, ModelSummary } from "./protocol/api.ts";
import { RestartPolicy } from "./restartPolicy.ts";
import type { GenerationEvent } from "./scheduler/request.ts";

export interface EngineStatus {
  phase: Exclude<EnginePhase, "draining">;
  model?: ModelSummary;
  /** How the model runs: why on this device, in how much of its memory. */
  notes?: readonly string[];
  reason?: string;
  /** As in `Health`. */
  weights?: Health["weights"];
}

/** What the server needs of an engine; tests bring a scripted one. */
export interface EngineHandle {
  readonly status: EngineStatus;
  /** As the engine's thread last told it. */
  readonly activity: EngineActivity;
  /** Calls `listener` at every change of `status`. */
  onStatus(listener: (status: EngineStatus) => void): void;
  /** Calls `listener` at every change of `activity`. */
  onActivity(listener: () => void): void;
  /** Starts a generation; `onEvent` hears its deltas and one terminal event. The result cancels it. */
  generate(input: GenerationInput, onEvent: (event: GenerationEvent) => void): () => void;
  tokenize(text: string): Promise<number[]>;
  detokenize(tokens: number[]): Promise<string>;
  stats(): Promise<EngineStats>;
  close(): Promise<void>;
}

export interface HostedEngineOptions {
  /** The memory of a GPU is given back so long after the last request; 0 or missing: never. */
  gpuIdleMs?: number;
  /** Tests bring hosts of their own. */
  start?: StartHost;
  policy?: RestartPolicy;
}

/** Of an engine that holds nothing. */
const NOTHING: EngineStats = {
  sequences: { running: 0, waiting: 0 },
  kv: {
    ...{ blocksTotal: 0, blocksUsed: 0, blocksCached: 0 },
    ...{ tokensCached: 0, tokensPinned: 0, bytes: 0 },
  },
  drafts: { drafted: 0, accepted: 0 },
};

export class HostedEngine implements EngineHandle {
  status: EngineStatus = { phase: "loading" };
  activity: EngineActivity = { running: 0, waiting: 0 };
  private readonly script: string;
  private readonly options: HostedEngineOptions;
  private readonly policy: RestartPolicy;
  private readonly statusListeners: ((status: EngineStatus) => void)[] = [];
  private readonly activityListeners: (() => void)[] = [];
  private readonly generations = new Map<number, (event: GenerationEvent) => void>();
  private readonly questions = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  private engine: EngineOptions;
  private kind: HostKind;
  /** Undefined while the memory of the GPU is given back, and between a loss and the restart. */
  private host: EngineHost | undefined;
  private nextId = 1;
  private onGpu = false;
  private isClosed = false;
  private timer: NodeJS.Timeout | undefined;

  /** Starts the engine; `script` is the bundle, which runs it when it finds itself in a host. */
  constructor(script: string, engine: EngineOptions, options: HostedEngineOptions = {}) {
    this.script = script;
    this.engine = engine;
    this.options = options;
    this.policy = options.policy ?? new RestartPolicy();
    this.kind = hostKindFor(engine);
    this.host = this.start();
  }

  onStatus(listener: (status: EngineStatus) => void): void {
    this.statusListeners.push(listener);
  }

  onActivity(listener: () => void): void {
    this.activityListeners.push(listener);
  }

  generate(input: GenerationInput, onEvent: (event: GenerationEvent) => void): () => void {
    const id = this.nextId++;
    if (this.status.phase === "failed" || this.isClosed) {
      const message = this.status.reason ?? "the engine failed";
      queueMicrotask(() => onEvent({ type: "error", code: "internal", message }));
      return () => undefined;
    }
    this.generations.set(id, onEvent);
    this.send({ type: "submit", id, input });
    return () => {
      if (this.generations.has(id)) this.send({ type: "cancel", id });
    };
  }

  tokenize(text: string): Promise<number[]> {
    return this.ask("tokenize", text);
  }

  detokenize(tokens: number[]): Promise<string> {
    return this.ask("detokenize", tokens);
  }

  /** Does not wake an engine that gave its memory back. */
  stats(): Promise<EngineStats> {
    return this.status.weights === "released"
      ? Promise.resolve(NOTHING)
      : this.ask("stats", undefined);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    await this.host?.close();
  }

  private start(): EngineHost {
    const start = this.options.start ?? startHost;
    const host: EngineHost = start(this.kind, this.script, this.engine, {
      onMessage: (message) => {
        if (this.host === host) this.receive(message);
      },
      onEnd: (why) => {
        if (this.host === host) this.lost("internal", why);
      },
    });
    return host;
  }

  private ask<K extends QuestionName>(
    question: K,
    value: EngineQuestions[K]["ask"],
  ): Promise<EngineQuestions[K]["answer"]> {
    const id = this.nextId++;
    if (this.status.phase !== "ready") {
      const message = `expected a ready engine, found it ${this.status.phase}`;
      return Promise.reject(new EngineError("not_ready", message));
    }
    return new Promise((resolve, reject) => {
      this.questions.set(id, { resolve: resolve as (answer: unknown) => void, reject });
      this.send({ type: "ask", id, question, value } as ToEngine);
    });
  }

  /** An engine that is not there is started: what is sent to it meanwhile waits in its channel. */
  private send(message: ToEngine): void {
    clearTimeout(this.timer);
    if (this.host === undefined) {
      this.host = this.start();
      const { weights } = this.status;
      if (weights === "released") this.change({ ...this.status, weights: "reloading" });
    }
    this.host.send(message);
  }

  private receive(message: FromEngine): void {
    switch (message.type) {
      case "ready": {
        const { model, notes } = message;
        const { reason } = this.status;
        this.onGpu = message.onGpu;
        this.change({ phase: "ready", model, notes, ...(reason === undefined ? {} : { reason }) });
        this.restWhenIdle();
        return;
      }
      case "failed":
        this.lost(message.code, message.message);
        return;
      case "events":
        for (const { id, event } of message.events) {
          const onEvent = this.generations.get(id);
          if (event.type !== "delta") this.generations.delete(id);
          onEvent?.(event);
        }
        this.restWhenIdle();
        return;
      case "activity":
        this.tellActivity(message.activity);
        return;
      case "answer":
        this.questions.get(message.id)?.resolve(message.value);
        this.questions.delete(message.id);
        this.restWhenIdle();
        return;
    }
  }

  /** The host is of no more use. Says what follows, then everybody who waits hears it once. The first reason counts. */
  private lost(code: EngineErrorCode, reason: string): void {
    const host = this.host;
    this.host = undefined;
    if (this.isClosed) return;
    void host?.close();
    const { phase, model, weights } = this.status;
    // What never ran, or runs in a thread of this process, would fail again.
    const hasRun = model !== undefined && this.kind === "process";
    if (!hasRun) {
      if (phase !== "failed") this.change({ phase: "failed", reason });
    } else if (weights === "reloading" && code === "out_of_memory") {
      this.change({ ...this.status, weights: "released" });
    } else {
      this.restart(reason);
    }
    this.endAll(code, reason);
  }

  private restart(reason: string): void {
    const next = this.policy.lost(performance.now());
    const { model } = this.status;
    const told = (words: string) =>
      this.change({ phase: "loading", reason: words, ...(model && { model }) });
    if (next === "give up") {
      this.kind = "thread";
      this.engine = { ...this.engine, device: "cpu" };
      told(`on the CPU, because the GPU failed repeatedly: ${reason}`);
      this.host = this.start();
      return;
    }
    told(`restarted, because the GPU failed: ${reason}`);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.host ??= this.start();
    }, next.afterMs);
  }

  private endAll(code: EngineErrorCode, message: string): void {
    const waiting = [...this.generations.values()];
    const questions = [...this.questions.values()];
    this.generations.clear();
    this.questions.clear();
    for (const onEvent of waiting) onEvent({ type: "error", code, message });
    for (const question of questions) question.reject(new EngineError(code, message));
    this.tellActivity({ running: 0, waiting: 0 });
  }

  /** Gives the card back when nobody asks for anything for a while. */
  private restWhenIdle(): void {
    clearTimeout(this.timer);
    const { gpuIdleMs = 0 } = this.options;
    if (!this.onGpu || gpuIdleMs === 0 || this.generations.size + this.questions.size > 0) return;
    this.timer = setTimeout(() => {
      const { host } = this;
      this.host = undefined;
      this.change({ ...this.status, weights: "released" });
      void host?.close();
    }, gpuIdleMs);
    this.timer.unref();
  }

  private tellActivity(activity: EngineActivity): void {
    this.activity = activity;
    for (const listener of this.activityListeners) listener();
  }

  private change(status: EngineStatus): void {
    this.status = status;
    for (const listener of this.statusListeners) listener(status);
  }
}
