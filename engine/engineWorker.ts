/** The engine's thread: loads the model, then steps it; messages are read between steps. */
import type { MessagePort } from "node:worker_threads";
import { EngineError, messageOf } from "./base/errors.ts";
import { Engine, loadEngineParts } from "./engine.ts";
import type { EngineWorkerData, FromEngine, ToEngine } from "./engineMessages.ts";
import { EventOutbox } from "./eventOutbox.ts";

/** Runs until the port closes. A model that cannot be loaded is reported as `failed`, and the thread ends. */
export function runEngineWorker(port: MessagePort, data: EngineWorkerData): void {
  const tell = (message: FromEngine) => port.postMessage(message);
  const outbox = new EventOutbox((events) => tell({ type: "events", events }));
  let engine: Engine;
  let notes: readonly string[];
  try {
    const parts = loadEngineParts(data.options);
    notes = parts.notes;
    engine = new Engine(parts, (id, event) => outbox.add(id, event));
  } catch (error) {
    tell({ type: "failed", code: codeOf(error), message: messageOf(error) });
    port.close();
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
    isStepping = engine.step();
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
  tell({ type: "ready", model: engine.summary, notes });
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
      return engine.stats();
  }
}

function codeOf(error: unknown) {
  return EngineError.is(error) ? error.code : "internal";
}
