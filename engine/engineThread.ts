/** The engine as the HTTP thread sees it: everything is a message, so nothing here waits for arithmetic. */
import { Worker } from "node:worker_threads";
import { EngineError, messageOf } from "./base/errors.ts";
import type { EngineActivity, EngineOptions, EngineStats, GenerationInput } from "./engine.ts";
import type {
  EngineQuestions,
  EngineWorkerData,
  FromEngine,
  QuestionName,
  ToEngine,
} from "./engineMessages.ts";
import type { EnginePhase, ModelSummary } from "./protocol/api.ts";
import type { GenerationEvent } from "./scheduler/request.ts";

export interface EngineStatus {
  phase: Exclude<EnginePhase, "draining">;
  model?: ModelSummary;
  /** How the model runs: why on this device, in how much of its memory. */
  notes?: readonly string[];
  reason?: string;
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

/** Short-lived objects of the thread: a small young heap keeps the memory of many requests from adding up. */
const THREAD_HEAP = { maxYoungGenerationSizeMb: 8 };

export class EngineThread implements EngineHandle {
  status: EngineStatus = { phase: "loading" };
  activity: EngineActivity = { running: 0, waiting: 0 };
  private readonly worker: Worker;
  private readonly statusListeners: ((status: EngineStatus) => void)[] = [];
  private readonly activityListeners: (() => void)[] = [];
  private readonly generations = new Map<number, (event: GenerationEvent) => void>();
  private readonly questions = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  private nextId = 1;
  /** The thread is being ended on purpose, which is no failure. */
  private isClosing = false;

  /** Starts the thread; `script` is the bundle, which runs the engine when it finds itself in a worker. */
  constructor(script: string, options: EngineOptions) {
    const workerData: EngineWorkerData = { role: "tidepool-engine", options };
    this.worker = new Worker(script, { workerData, argv: [], resourceLimits: THREAD_HEAP });
    this.worker.on("message", (message: FromEngine) => this.receive(message));
    this.worker.on("error", (error) => this.fail(`the engine's thread ended: ${messageOf(error)}`));
    this.worker.on("exit", () => this.fail("the engine's thread ended"));
  }

  onStatus(listener: (status: EngineStatus) => void): void {
    this.statusListeners.push(listener);
  }

  onActivity(listener: () => void): void {
    this.activityListeners.push(listener);
  }

  generate(input: GenerationInput, onEvent: (event: GenerationEvent) => void): () => void {
    const id = this.nextId++;
    if (this.status.phase === "failed") {
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

  stats(): Promise<EngineStats> {
    return this.ask("stats", undefined);
  }

  async close(): Promise<void> {
    this.isClosing = true;
    await this.worker.terminate();
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

  private send(message: ToEngine): void {
    this.worker.postMessage(message);
  }

  private receive(message: FromEngine): void {
    switch (message.type) {
      case "ready":
        this.change({ phase: "ready", model: message.model, notes: message.notes });
        return;
      case "failed":
        this.fail(message.message);
        return;
      case "events":
        for (const { id, event } of message.events) {
          const onEvent = this.generations.get(id);
          if (event.type !== "delta") this.generations.delete(id);
          onEvent?.(event);
        }
        return;
      case "activity":
        this.tellActivity(message.activity);
        return;
      case "answer":
        this.questions.get(message.id)?.resolve(message.value);
        this.questions.delete(message.id);
        return;
    }
  }

  /** The thread is of no more use: everybody who waits hears it once. The first reason counts. */
  private fail(reason: string): void {
    if (this.status.phase !== "failed" && !this.isClosing) this.change({ phase: "failed", reason });
    for (const onEvent of this.generations.values())
      onEvent({ type: "error", code: "internal", message: reason });
    this.generations.clear();
    for (const question of this.questions.values())
      question.reject(new EngineError("internal", reason));
    this.questions.clear();
    this.tellActivity({ running: 0, waiting: 0 });
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
