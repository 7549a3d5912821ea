/** The HTTP API: routes, authorisation, presence. It knows requests and the engine's handle, and no tensors. */
import { createHash, timingSafeEqual } from "node:crypto";
import { Hono } from "hono";
import { Counter, Gauge, Registry } from "prom-client";
import { EngineError } from "../base/errors.ts";
import type { EngineHandle } from "../hostedEngine.ts";
import {
  type EngineEvents,
  type EngineState,
  type Health,
  type ModelSummary,
  PROTOCOL_VERSION,
} from "../protocol/api.ts";
import { answerCompletion } from "./completionsRoute.ts";
import { type EventSink, eventStream } from "./eventStream.ts";
import { Generations } from "./generate.ts";
import { errorResponse } from "./httpErrors.ts";
import { answerInfill } from "./infillRoute.ts";
import { answerPrefill } from "./prefillRoute.ts";
import { readBody } from "./requestBody.ts";
import {
  completionSchema,
  detokenizeSchema,
  infillSchema,
  prefillSchema,
  tokenizeSchema,
} from "./schemas.ts";

export interface AppOptions {
  engine: EngineHandle;
  version: string;
  /** Asked for by POST /tidepool/shutdown. */
  onShutdown: () => void;
  /** Called when somebody asks for something, comes, or goes. Questions about health do not count. */
  onUse?: () => void;
}

/** Answers one HTTP request. */
export type Fetch = (request: Request) => Response | Promise<Response>;

/** One for all listeners of a daemon, so that requests, clients and draining are counted together. */
export class App {
  readonly generations: Generations;
  /** Clients that hold an event stream. */
  nClients = 0;
  isDraining = false;
  private readonly options: AppOptions;
  private readonly watchers = new Set<() => void>();
  private readonly enders = new Set<() => void>();

  constructor(options: AppOptions) {
    this.options = options;
    this.generations = new Generations(options.engine, () => this.changed());
    options.engine.onStatus(() => this.changed());
    options.engine.onActivity(() => this.tellWatchers());
  }

  /** The routes for one listener; with `token` every request must bear it. */
  routes(token?: string): Fetch {
    const app = new Hono();
    app.onError((error) => errorResponse(error));
    app.notFound((c) =>
      errorResponse(
        new EngineError("not_found", `expected a known path, found ${c.req.method} ${c.req.path}`),
      ),
    );
    app.use(async (c, next) => {
      if (token !== undefined) checkToken(token, c.req.header("authorization"));
      if (c.req.path !== "/health") this.options.onUse?.();
      await next();
    });
    this.addStateRoutes(app);
    this.addModelRoutes(app);
    return app.fetch;
  }

  health(): Health {
    const { phase, model, reason, weights } = this.options.engine.status;
    const health: Health = {
      status: this.isDraining ? "draining" : phase,
      version: this.options.version,
      protocol: PROTOCOL_VERSION,
      pid: process.pid,
    };
    if (reason !== undefined) health.reason = reason;
    if (model !== undefined) health.model = model;
    if (weights !== undefined) health.weights = weights;
    return health;
  }

  /** From now on only health and state are answered. */
  drain(): void {
    this.isDraining = true;
    this.changed();
  }

  /** Ends all event streams, which would otherwise hold their connections open. */
  endEventStreams(): void {
    for (const end of this.enders) end();
  }

  private changed(): void {
    this.tellWatchers();
    this.options.onUse?.();
  }

  private tellWatchers(): void {
    for (const watch of this.watchers) watch();
  }

  private ready(): ModelSummary {
    const health = this.health();
    if (health.status === "ready" && health.model !== undefined) return health.model;
    const why = health.reason === undefined ? "" : ` (${health.reason})`;
    throw new EngineError("not_ready", `expected a ready engine, found it ${health.status}${why}`);
  }

  private addStateRoutes(app: Hono): void {
    app.get("/health", (c) => {
      const health = this.health();
      return c.json(health, health.status === "ready" ? 200 : 503);
    });
    app.get("/metrics", async (c) => {
      const registry = await this.metrics();
      return c.body(await registry.metrics(), 200, { "content-type": registry.contentType });
    });
    app.get("/tidepool/state", async (c) => c.json(await this.state()));
    app.get("/tidepool/events", (c) => this.events(c.req.raw));
    app.post("/tidepool/shutdown", (c) => {
      setImmediate(this.options.onShutdown);
      return c.json({ status: "draining" });
    });
  }

  private addModelRoutes(app: Hono): void {
    const { engine } = this.options;
    app.get("/v1/models", (c) => {
      const data = [{ id: this.ready().id, object: "model", owned_by: "tidepool" }];
      return c.json({ object: "list", data });
    });
    app.post("/infill", async (c) => {
      const body = await readBody(c.req.raw, infillSchema);
      return answerInfill(this.generations, this.ready().id, body, c.req.raw);
    });
    app.post("/tidepool/prefill", async (c) => {
      const body = await readBody(c.req.raw, prefillSchema);
      this.ready();
      return answerPrefill(this.generations, body, c.req.raw);
    });
    app.post("/v1/completions", async (c) => {
      const body = await readBody(c.req.raw, completionSchema);
      return answerCompletion(this.generations, this.ready().id, body, c.req.raw);
    });
    app.post("/v1/chat/completions", () => {
      throw new EngineError(
        "unsupported",
        "expected a chat model, found a completion model: use /v1/completions or /infill",
      );
    });
    app.post("/tokenize", async (c) => {
      const { content } = await readBody(c.req.raw, tokenizeSchema);
      return c.json({ tokens: await engine.tokenize(content) });
    });
    app.post("/detokenize", async (c) => {
      const { tokens } = await readBody(c.req.raw, detokenizeSchema);
      return c.json({ content: await engine.detokenize(tokens) });
    });
  }

  private async state(): Promise<EngineState> {
    const { engineRssBytes, ...stats } = await this.options.engine.stats();
    return {
      health: this.health(),
      ...stats,
      memory: { rssBytes: process.memoryUsage.rss() + (engineRssBytes ?? 0) },
      requests: { ...this.generations.counts },
    };
  }

  private events(request: Request): Response {
    return eventStream(request, (sink) => {
      const send = onceEach(sink);
      const watch = () => {
        send("health", this.health());
        send("activity", this.options.engine.activity);
      };
      this.watchers.add(watch);
      this.enders.add(sink.end);
      this.nClients++;
      watch();
      this.options.onUse?.();
      return () => {
        this.watchers.delete(watch);
        this.enders.delete(sink.end);
        this.nClients--;
        this.options.onUse?.();
      };
    });
  }

  private async metrics(): Promise<Registry> {
    const registry = new Registry();
    const registers = [registry];
    const gauge = (name: string, help: string, value: number) =>
      new Gauge({ name: `tidepool_${name}`, help, registers }).set(value);
    const counter = (name: string, help: string, value: number) =>
      new Counter({
        name: `tidepool_${name}_total`,
        help: `${help} since the start`,
        registers,
      }).inc(value);
    for (const [name, value] of Object.entries<number>({ ...this.generations.counts }))
      counter(`requests_${name}`, `Requests ${name}`, value);
    gauge("clients", "Clients that hold an event stream", this.nClients);
    let rssBytes = process.memoryUsage.rss();
    if (this.options.engine.status.phase === "ready") {
      const { kv, sequences, drafts, engineRssBytes = 0 } = await this.options.engine.stats();
      counter("draft_tokens", "Tokens guessed", drafts.drafted);
      counter("draft_tokens_accepted", "Tokens guessed right", drafts.accepted);
      for (const [name, value] of Object.entries<number>(sequences))
        gauge(`sequences_${name}`, `Sequences ${name}`, value);
      for (const [name, value] of Object.entries<number>(kv))
        gauge(`kv_${snakeCase(name)}`, `KV cache: ${name}`, value);
      rssBytes += engineRssBytes;
    }
    gauge("rss_bytes", "Resident memory", rssBytes);
    return registry;
  }
}

/** Sends an event when its data differs from what was last sent under the same name. */
function onceEach(sink: EventSink): (name: keyof EngineEvents, data: object) => void {
  const last = new Map<string, string>();
  return (name, data) => {
    const text = JSON.stringify(data);
    if (last.get(name) === text) return;
    last.set(name, text);
    sink.send(data, name);
  };
}

/** Metric names are written in snake case. */
function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Compares hashes, which have equal length, in constant time. Throws `unauthorized`. */
function checkToken(expected: string, header: string | undefined): void {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  const given = header?.startsWith("Bearer ") ? header.slice(7) : "";
  if (timingSafeEqual(hash(given), hash(expected))) return;
  throw new EngineError(
    "unauthorized",
    "expected a bearer token in the authorization header, found none or another",
  );
}
