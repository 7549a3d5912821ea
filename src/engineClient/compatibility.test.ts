import { describe, expect, test } from "vitest";
import { type Health, PROTOCOL_VERSION } from "../../engine/protocol/api.ts";
import { judge } from "./compatibility.ts";

const model = { id: "mini", path: "/m/a.gguf", contextLength: 4096, device: "cpu", fim: true };

function daemon(change: Partial<Health> = {}): Health {
  return {
    status: "ready",
    version: "0.2.0",
    protocol: PROTOCOL_VERSION,
    pid: 1,
    model,
    ...change,
  };
}

describe("a daemon is", () => {
  const cases: [string, Health, Parameters<typeof judge>[1], string][] = [
    ["used when versions are equal", daemon(), { version: "0.2.0" }, "use"],
    [
      "used when it is newer and speaks our protocol",
      daemon({ version: "0.10.0" }),
      { version: "0.9.9" },
      "use",
    ],
    ["replaced when it is older", daemon({ version: "0.1.9" }), { version: "0.2.0" }, "replace"],
    [
      "replaced when it is older and of another protocol",
      daemon({ version: "0.1.0", protocol: 0 }),
      { version: "0.2.0" },
      "replace",
    ],
    [
      "refused when it is newer and of another protocol",
      daemon({ version: "0.3.0", protocol: 99 }),
      { version: "0.2.0" },
      "refuse",
    ],
    [
      "replaced when it holds another model than asked for",
      daemon(),
      { version: "0.2.0", model: "/m/b.gguf" },
      "replace",
    ],
    [
      "used when it holds the model asked for",
      daemon(),
      { version: "0.2.0", model: "/m/a.gguf" },
      "use",
    ],
  ];
  test.each(cases)("%s", (_name, found, needed, verdict) => {
    expect(judge(found, needed).kind).toBe(verdict);
  });
});
