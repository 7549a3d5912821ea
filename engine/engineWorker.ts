/** The engine's thread or process: loads the model, then steps it; messages are read between steps. */
import { isMainThread } from "node:worker_threads";
import { EngineError, messageOf } from "./base/errors.ts";
import { Engine, loadEngineParts } from "./engine.ts";
import type { EngineWorkerData, FromEngine, ToEngine } from "./engineMessages.ts";
import { EventOutbox } from "./eventOutbox.ts";

/** Messages to and from whoever started the engine: a MessagePort, or a process's channel (`processPort`). */
export interface EnginePort {
  postMessage(message: FromEngine): void;
  on(event: "message", listener: (message: ToEngine) => void): unknown;
  close(): void;
}

/** The channel of a process that was started as the engine. It ends with whoever started it. */
export function runEngineProcess(): void {
  // Ctrl-C goes to the whole group: the daemon decides, and lets requests end before.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
  process.once("disconnect", () => process.exit());
  const port: EnginePort = {
    postMessage: (message) => process.send?.(message),
    on: (event, listener) => process.on(event, (message) => listener(message as ToEngine)),
    close: () => process.disconnect(),
  };
  process.once("message", (data) => runEngineWorker(port, data as EngineWorkerData));
}

/**
 * Runs until the port closes. A model that cannot be loaded, and a device that is lost, is reported as `failed`, and the
 * engine ends: whoever started it ends what waits.
 */
export function runEngineWorker(port: EnginePort, data: EngineWorkerData): void {
  const tell = (message: FromEngine) => port.postMessage(message);
  const outbox = new EventOutbox((events) => tell({ type: "events", events }));
  let engine: Engine;
  let notes: readonly string[];
  let onGpu: boolean;
  const fail = (error: unknown) => {
    tell({ type: "failed", code: codeOf(error), message: messageOf(error) });
    port.close();
  };
  try {
    const parts = loadEngineParts(data.options);
    notes = parts.notes;
    onGpu = parts.backend.deviceMemory() !== undefined;
    engine = new Engine(parts, (id, event) => outbox.add(id, event));
  } catch (error) {
    fail(error);
    return;
  }
  let told = engine.activity;
  const tellActivity = () => {
    const now = engine.activity;
    const isSame =
      now.running === told.running &&
      now.waiting === told.waiting &&
      now.prefill?.done === told.prefill?.done;
    if (isSame) return;
    told = now;
    tell({ type: "activity", activity: told });
  };
  let isStepping = false;
  const step = () => {
    try {
      isStepping = engine.step();
    } catch (error) {
      fail(error);
      return;
    }
    outbox.stepped(!isStepping);
    tellActivity();
    if (isStepping) setImmediate(step);
  };
  port.on("message", (message: ToEngine) => {
    handle(engine, message, tell);
    tellActivity();
    if (isStepping) return;
    isStepping = true;
    setImmediate(step);
  });
  tell({ type: "ready", model: engine.summary, notes, onGpu });
}

function handle(engine: Engine, message: ToEngine, tell: (message: FromEngine) => void): void {
  switch (message.type) {
    case "submit":
      try {
        engine.submit(message.id, message.input);
      } catch (error) {
        const event = { type: "error" as const, code: codeOf(error), message: messageOf(error) };
        tell({ type: "events", events: [{ id: message.id, event }] });
      }
      return;
    case "cancel":
      engine.cancel(message.id);
      return;
    case "ask":
      tell({ type: "answer", id: message.id, value: answer(engine, message) });
      return;
  }
}

function answer(engine: Engine, message: Extract<ToEngine, { type: "ask" }>): unknown {
  switch (message.question) {
    case "tokenize":
      return engine.tokenize(message.value);
    case "detokenize":
      return engine.detokenize(message.value);
    case "stats":
      // A thread's memory is counted with its process.
      return process.send === undefined || !isMainThread
        ? engine.stats()
        : { ...engine.stats(), engineRssBytes: process.memoryUsage.rss() };
  }
}

function codeOf(error: unknown) {
  return EngineError.is(error) ? error.code : "internal";
}
