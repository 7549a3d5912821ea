/**
 * Where the engine runs: in a thread, or in a process of its own where it may use a GPU. Only the end of a process gives
 * all of a card back, and ends an error that the driver does not recover from.
 */
import { fork } from "node:child_process";
import { statSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { messageOf } from "./base/errors.ts";
import type { EngineOptions } from "./engine.ts";
import {
  ENGINE_PROCESS,
  type EngineWorkerData,
  type FromEngine,
  type ToEngine,
} from "./engineMessages.ts";
import { SMALL_MODEL_BYTES } from "./model/loadModel.ts";

export interface EngineHost {
  send(message: ToEngine): void;
  /** Ends it, whatever it is at. */
  close(): Promise<void>;
}

export interface HostListeners {
  onMessage: (message: FromEngine) => void;
  /** It ended, for whatever reason: in one line. */
  onEnd: (why: string) => void;
}

export type HostKind = "thread" | "process";

/** Starts an engine; `script` is the bundle, which runs the engine when it finds itself in a host. */
export type StartHost = (
  kind: HostKind,
  script: string,
  options: EngineOptions,
  listeners: HostListeners,
) => EngineHost;

/** Short-lived objects of the thread: a small young heap keeps the memory of many requests from adding up. */
const THREAD_HEAP = { maxYoungGenerationSizeMb: 8 };

/** `process` unless it is known that the engine takes the CPU: a thread takes less memory and answers sooner. */
export function hostKindFor({ device = "cpu", modelPath }: EngineOptions): HostKind {
  if (device !== "auto") return device === "cpu" ? "thread" : "process";
  const nBytes = statSync(modelPath, { throwIfNoEntry: false })?.size ?? 0;
  return nBytes < SMALL_MODEL_BYTES ? "thread" : "process";
}

export const startHost: StartHost = (kind, script, options, listeners) => {
  const data: EngineWorkerData = { role: "tidepool-engine", options };
  return kind === "thread"
    ? startThread(script, data, listeners)
    : startProcess(script, data, listeners);
};

function startThread(script: string, data: EngineWorkerData, listeners: HostListeners): EngineHost {
  const worker = new Worker(script, { workerData: data, argv: [], resourceLimits: THREAD_HEAP });
  worker.on("message", listeners.onMessage);
  worker.on("error", (error) => listeners.onEnd(`the engine's thread ended: ${messageOf(error)}`));
  worker.on("exit", () => listeners.onEnd("the engine's thread ended"));
  return {
    send: (message) => worker.postMessage(message),
    close: async () => {
      await worker.terminate();
    },
  };
}

/** Settles when the process that was closed last has given back all it held. */
let closing: Promise<unknown> = Promise.resolve();

/** It loads nothing before the one that was closed is gone: the memory of a card is counted when loading begins. */
function startProcess(
  script: string,
  data: EngineWorkerData,
  listeners: HostListeners,
): EngineHost {
  const child = fork(script, [ENGINE_PROCESS], {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const ended = new Promise<void>((resolve) => {
    child.once("close", (code, signal) => {
      resolve();
      listeners.onEnd(`the engine's process ended with ${signal ?? `code ${code}`}`);
    });
  });
  child.on("error", (error) => listeners.onEnd(`the engine's process: ${messageOf(error)}`));
  child.on("message", (message) => listeners.onMessage(message as FromEngine));
  const free = closing;
  // A process that just ended cannot be sent to; that it ended is told by "close".
  const send = (message: EngineWorkerData | ToEngine) => {
    void free.then(() => child.send(message, () => undefined));
  };
  send(data);
  return {
    send,
    close: async () => {
      child.kill("SIGKILL");
      closing = Promise.all([closing, ended]);
      if (child.exitCode === null && child.signalCode === null) await ended;
    },
  };
}
