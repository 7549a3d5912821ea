/** The HTTP API: routes, authorisation, presence. It knows requests and the engine's handle, and no tensors. */
import { createHash, timingSafeEqual } from "node:crypto";
import { Hono } from "hono";
import { Gauge, Registry } from "prom-client";
import { EngineError } from "../base/errors.ts";
import type { EngineHandle } from "../engineThread.ts";
import {
  type EngineState,
  type Health,
  type ModelSummary,
  PROTOCOL_VERSION,
} from "../protocol/api.ts";
import { answerCompletion } from "./completionsRoute.ts";
import { eventStream } from "./eventStream.ts";
import { Generations } from "./generate.ts";
import { errorResponse } from "./httpErrors.ts";
import { answerInfill } from "./infillRoute.ts";
import { readBody } from "./requestBody.ts";
import { completionSchema, detokenizeSchema, infillSchema, tokenizeSchema } from "./schemas.ts";

export interface AppOptions {
  engine: EngineHandle;
  version: string;
  /** Required from every request when set. */
  token?: string;
  /** Asked for by POST /tidepool/shutdown. */
  onShutdown: () => void;
  /** Called when the number of clients or live requests changes. */
  onUse?: () => void;
}

export class App {
  readonly generations: Generations;
  /** Clients that hold an event stream. */
  nClients = 0;
  isDraining = false;
  readonly fetch: (request: Request) => Response | Promise<Response>;
  private readonly options: AppOptions;
  private readonly watchers = new Set<() => void>();

  constructor(options: AppOptions) {
    this.options = options;
    this.generations = new Generations(options.engine, () => this.changed());
    options.engine.onStatus(() => this.changed());
    this.fetch = this.routes().fetch;
  }

  health(): Health {
    const { phase, model, reason } = this.options.engine.status;
    const health: Health = {
      status: this.isDraining ? "draining" : phase,
      version: this.options.version,
      protocol: PROTOCOL_VERSION,
      pid: process.pid,
    };
    if (reason !== undefined) health.reason = reason;
    if (model !== undefined) health.model = model;
    return health;
  }

  /** From now on only health and state are answered. */
  drain(): void {
    this.isDraining = true;
    this.changed();
  }

  private changed(): void {
    for (const watch of this.watchers) watch();
    this.options.onUse?.();
  }

  private ready(): ModelSummary {
    const health = this.health();
    if (health.status === "ready" && health.model !== undefined) return health.model;
    const why = health.reason === undefined ? "" : ` (${health.reason})`;
    throw new EngineError("not_ready", `expected a ready engine, found it ${health.status}${why}`);
  }

  private routes(): Hono {
    const app = new Hono();
    const { engine, token } = this.options;
    app.onError((error) => errorResponse(error));
    app.notFound((c) =>
      errorResponse(
        new EngineError("not_found", `expected a known path, found ${c.req.method} ${c.req.path}`),
      ),
    );
    if (token !== undefined)
      app.use(async (c, next) => {
        checkToken(token, c.req.header("authorization"));
        await next();
      });
    app.get("/health", (c) => {
      const health = this.health();
      return c.json(health, health.status === "ready" ? 200 : 503);
    });
    app.get("/metrics", async (c) => c.text(await this.metrics()));
    app.get("/v1/models", (c) =>
      c.json({
        object: "list",
        data: [{ id: this.ready().id, object: "model", owned_by: "tidepool" }],
      }),
    );
    app.post("/infill", async (c) => {
      const body = await readBody(c.req.raw, infillSchema);
      return answerInfill(this.generations, this.ready().id, body, c.req.raw);
    });
    app.post("/v1/completions", async (c) => {
      const body = await readBody(c.req.raw, completionSchema);
      return answerCompletion(this.generations, this.ready().id, body, c.req.raw, (id) =>
        engine.detokenize([id]),
      );
    });
    app.post("/v1/chat/completions", () => {
      throw new EngineError(
        "unsupported",
        "expected a chat model, found a completion model: use /v1/completions or /infill",
      );
    });
    app.post("/tokenize", async (c) =>
      c.json({
        tokens: await engine.tokenize((await readBody(c.req.raw, tokenizeSchema)).content),
      }),
    );
    app.post("/detokenize", async (c) =>
      c.json({
        content: await engine.detokenize((await readBody(c.req.raw, detokenizeSchema)).tokens),
      }),
    );
    app.get("/tidepool/state", async (c) => c.json(await this.state()));
    app.get("/tidepool/events", (c) => this.events(c.req.raw));
    app.post("/tidepool/shutdown", (c) => {
      setImmediate(this.options.onShutdown);
      return c.json({ status: "draining" });
    });
    return app;
  }

  private async state(): Promise<EngineState> {
    const stats = await this.options.engine.stats();
    return {
      health: this.health(),
      ...stats,
      memory: { rssBytes: process.memoryUsage.rss() },
      requests: { ...this.generations.counts },
    };
  }

  private events(request: Request): Response {
    return eventStream(request, (sink) => {
      let lastHealth = "";
      const watch = () => {
        const health = this.health();
        if (JSON.stringify(health) !== lastHealth) sink.send(health, "health");
        lastHealth = JSON.stringify(health);
        sink.send({ running: this.generations.nLive, waiting: 0 }, "activity");
      };
      this.watchers.add(watch);
      this.nClients++;
      watch();
      this.options.onUse?.();
      return () => {
        this.watchers.delete(watch);
        this.nClients--;
        this.options.onUse?.();
      };
    });
  }

  private async metrics(): Promise<string> {
    const registry = new Registry();
    const gauge = (name: string, help: string, value: number) =>
      new Gauge({ name: `tidepool_${name}`, help, registers: [registry] }).set(value);
    for (const [name, value] of Object.entries<number>({ ...this.generations.counts }))
      gauge(`requests_${name}`, `Requests ${name}`, value);
    gauge("rss_bytes", "Resident memory", process.memoryUsage.rss());
    gauge("clients", "Clients that hold an event stream", this.nClients);
    if (this.options.engine.status.phase === "ready") {
      const { kv } = await this.options.engine.stats();
      for (const [name, value] of Object.entries<number>(kv))
        gauge(`kv_${name}`, `KV cache: ${name}`, value);
    }
    return registry.metrics();
  }
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
