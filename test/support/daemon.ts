/** A real engine daemon in a runtime folder of its own, and plain HTTP calls to it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { EngineState, Health } from "../../engine/protocol/api.ts";
import { engineBundle, tinyModel } from "./engineBundle.ts";

const START_MS = 20_000;

export interface Answer {
  status: number;
  text: string;
}

export class Daemon {
  readonly dir: string;
  readonly child: ChildProcess;
  /** Everything that it printed so far. */
  output = "";
  errors = "";
  private readonly exit: Promise<number | null>;

  /** Starts `serve` with `args`, and `env` over the environment of the test; the tiny model unless `args` name another. */
  constructor(dir: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
    this.dir = dir;
    const model = args.includes("--model") ? [] : ["--model", tinyModel];
    this.child = spawn(process.execPath, [engineBundle(), "serve", ...model, ...args], {
      env: { ...process.env, ...env, TIDEPOOL_RUNTIME_DIR: dir },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.on("data", (chunk: Buffer) => {
      this.output += chunk.toString();
    });
    this.child.stderr?.on("data", (chunk: Buffer) => {
      this.errors += chunk.toString();
    });
    this.exit = once(this.child, "close").then(([code]) => code as number | null);
  }

  get socket(): string {
    return join(this.dir, "engine.sock");
  }

  /** The exit code, or null after a signal. */
  ended(): Promise<number | null> {
    return this.exit;
  }

  /** Waits until it is ready and returns its health. */
  async ready(): Promise<Health> {
    return eventually(async () => {
      const answer = await this.get("/health").catch(() => undefined);
      const health = answer === undefined ? undefined : (JSON.parse(answer.text) as Health);
      if (health?.status === "failed") throw new Error(health.reason);
      return health?.status === "ready" && health.pid === this.child.pid ? health : undefined;
    }, `a ready engine in ${this.dir}: ${this.errors}`);
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<number | null> {
    this.child.kill(signal);
    return this.exit;
  }

  get(path: string): Promise<Answer> {
    return this.call("GET", path);
  }

  post(path: string, body: unknown): Promise<Answer> {
    return this.call("POST", path, JSON.stringify(body));
  }

  async call(method: string, path: string, body?: string | Buffer): Promise<Answer> {
    return answerOf(this.open(method, path, body));
  }

  /** Sends a request and hands it out, so that a test can drop it. */
  open(method: string, path: string, body?: string | Buffer): ClientRequest {
    const sent = request({ socketPath: this.socket, method, path, agent: false });
    sent.end(body);
    return sent;
  }

  async state(): Promise<EngineState> {
    return JSON.parse((await this.get("/tidepool/state")).text) as EngineState;
  }
}

/** Reads the whole answer to `sent`; rejects when the connection breaks. */
export async function answerOf(sent: ClientRequest): Promise<Answer> {
  const [message] = (await once(sent, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return { status: message.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") };
}

/** Polls `look` until it returns something else than undefined. */
export async function eventually<T>(
  look: () => Promise<T | undefined> | T | undefined,
  what: string,
): Promise<T> {
  const deadline = Date.now() + START_MS;
  while (Date.now() < deadline) {
    const found = await look();
    if (found !== undefined) return found;
    await delay(20);
  }
  throw new Error(`expected within ${START_MS} ms: ${what}`);
}

/** A short runtime folder that does not exist yet; `clean` ends the daemons given to `track` and removes it. */
export function runtimeFolder() {
  const parent = mkdtempSync(join(tmpdir(), "tp-"));
  const daemons: Daemon[] = [];
  return {
    dir: join(parent, "run"),
    track(daemon: Daemon): Daemon {
      daemons.push(daemon);
      return daemon;
    },
    async clean(): Promise<void> {
      for (const daemon of daemons) await daemon.kill();
      rmSync(parent, { recursive: true, force: true });
    },
  };
}

/** Data of the events of a stream, in order; JSON is parsed. */
export function eventsOf(text: string): unknown[] {
  return text
    .trimEnd()
    .split("\n\n")
    .map((block) => {
      const data = /^data: (.*)$/m.exec(block)?.[1] ?? "";
      return data === "[DONE]" ? data : (JSON.parse(data) as unknown);
    });
}
