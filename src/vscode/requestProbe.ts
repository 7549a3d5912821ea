import type { InfillRequest } from "../../engine/protocol/api.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";

/** Passes everything on to an engine, and keeps the last request that somebody waited for: for tests in a real editor. */
export class RequestProbe implements EngineApi {
  last: InfillRequest | undefined;
  readonly infill: EngineApi["infill"];
  readonly prefill: EngineApi["prefill"];

  constructor(engine: EngineApi) {
    this.infill = (request, options) => {
      if (request.priority === "completion") this.last = request;
      return engine.infill(request, options);
    };
    this.prefill = (request, signal) => engine.prefill(request, signal);
  }
}
