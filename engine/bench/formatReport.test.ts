import { describe, expect, it } from "vitest";
import { formatReport } from "./formatReport.ts";
import { type BenchReport, stepProfile } from "./report.ts";

const MIB = 1024 * 1024;

const report: BenchReport = {
  bench: "decode",
  version: "1.2.3",
  machine: {
    cpu: "Abacus",
    cores: 2,
    device: "CPU, beads",
    system: "linux",
    node: "v20",
    load: [0.25, 1, 2],
  },
  model: { id: "tiny", path: "/m/tiny.gguf", contextLength: 4096 },
  limits: {
    cacheGbPerS: 50,
    cacheBytes: 24 * MIB,
    memoryGbPerS: 20,
    memoryBytes: 256 * MIB,
    gflopPerS: 100,
  },
  rows: [
    {
      name: "after 0 tokens",
      n: 64,
      p50Ms: 2,
      p95Ms: 3.456,
      tokensPerS: 500,
      gbPerS: 10,
      gflopPerS: 25,
    },
    { name: "start to ready", n: 3, p50Ms: 400, p95Ms: 412.5 },
  ],
  facts: { "fresh tokens per request": 2 },
  profile: stepProfile(
    "one token",
    [
      { op: "rmsnorm", calls: 8, ns: 100_000, bytes: 0, flops: 0 },
      { op: "linear", calls: 4, ns: 3_000_000, bytes: 30_000_000, flops: 6_000_000 },
    ],
    2,
    4,
  ),
  memory: { benchRssBytes: 100 * MIB, daemonRssBytes: 200 * MIB },
};

describe("formatReport", () => {
  it("sets measured figures beside the machine's limits, in aligned columns", () => {
    expect(formatReport(report)).toBe(`tidepool 1.2.3 bench decode
machine  Abacus, 2 cores; CPU, beads; linux; Node v20
load     0.3 1.0 2.0 at the start (1, 5, 15 minutes)
model    tiny (/m/tiny.gguf), context 4096
limits   reads 50.0 GB/s over 24 MiB (the model's size), 20.0 GB/s over 256 MiB, 100 GFLOP/s
memory   bench 100 MiB, daemon 200 MiB resident
fresh tokens per request: 2

                 n  p50 ms  p95 ms  tok/s         GB/s      GFLOP/s
after 0 tokens  64    2.00    3.46    500  10.0 (20 %)  25.0 (25 %)
start to ready   3  400.00  412.50

Where the time goes: one token
op               calls      us    share         GB/s    GFLOP/s
linear               2  1500.0   75.0 %  10.0 (20 %)  2.0 (2 %)
rmsnorm              4    50.0    2.5 %    0.0 (0 %)  0.0 (0 %)
outside the ops          450.0   22.5 %
one step                2000.0  100.0 %
`);
  });
});
