/** A benchmark's report as text for a terminal. */
import type { BenchLimits, BenchReport, BenchRow, StepProfile } from "./report.ts";
import { formatTable } from "./table.ts";

const MIB = 1024 * 1024;

/** The whole report, ending in a line break. */
export function formatReport(report: BenchReport): string {
  const { machine, model, limits, memory } = report;
  const daemon =
    memory.daemonRssBytes === undefined ? "" : `, daemon ${mib(memory.daemonRssBytes)}`;
  const parts = [
    [
      `tidepool ${report.version} bench ${report.bench}`,
      `machine  ${machine.cpu}, ${machine.cores} cores; ${machine.device}; ${machine.system}; Node ${machine.node}`,
      `load     ${machine.load.map((mean) => mean.toFixed(1)).join(" ")} at the start (1, 5, 15 minutes)`,
      `model    ${model.id} (${model.path}), context ${model.contextLength}`,
      `limits   ${limitsLine(limits)}`,
      `memory   bench ${mib(memory.benchRssBytes)}${daemon} resident`,
      ...Object.entries(report.facts).map(([name, value]) => `${name}: ${value}`),
    ],
    measured(report.rows, limits),
    ...(report.profile === undefined ? [] : [profileLines(report.profile, limits)]),
  ];
  return `${parts.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

function limitsLine(limits: BenchLimits): string {
  const { cacheGbPerS, cacheBytes, memoryGbPerS, memoryBytes, gflopPerS } = limits;
  return [
    `reads ${cacheGbPerS.toFixed(1)} GB/s over ${mib(cacheBytes)} (the model's size)`,
    `${memoryGbPerS.toFixed(1)} GB/s over ${mib(memoryBytes)}`,
    `${gflopPerS.toFixed(0)} GFLOP/s`,
  ].join(", ");
}

function measured(rows: readonly BenchRow[], limits: BenchLimits): string[] {
  const head = ["", "n", "p50 ms", "p95 ms", "tok/s", "GB/s", "GFLOP/s"];
  return formatTable(
    head,
    rows.map((row) => [
      row.name,
      String(row.n),
      row.p50Ms.toFixed(2),
      row.p95Ms.toFixed(2),
      row.tokensPerS?.toFixed(0) ?? "",
      withShare(row.gbPerS, limits.cacheGbPerS),
      withShare(row.gflopPerS, limits.gflopPerS),
    ]),
  );
}

function profileLines(profile: StepProfile, limits: BenchLimits): string[] {
  const share = (us: number) => `${((100 * us) / profile.stepUs).toFixed(1)} %`;
  const rows = profile.ops.map((op) => [
    op.op,
    op.callsPerStep.toFixed(0),
    op.usPerStep.toFixed(1),
    share(op.usPerStep),
    withShare(op.gbPerS, limits.cacheGbPerS),
    withShare(op.gflopPerS, limits.gflopPerS),
  ]);
  rows.push(
    ["outside the ops", "", profile.outsideUs.toFixed(1), share(profile.outsideUs), "", ""],
    ["one step", "", profile.stepUs.toFixed(1), share(profile.stepUs), "", ""],
  );
  return [
    `Where the time goes: ${profile.of}`,
    ...formatTable(["op", "calls", "us", "share", "GB/s", "GFLOP/s"], rows),
  ];
}

/** A rate with its share of the limit; nothing when it was not measured. */
function withShare(rate: number | undefined, limit: number): string {
  return rate === undefined ? "" : `${rate.toFixed(1)} (${((100 * rate) / limit).toFixed(0)} %)`;
}

function mib(nBytes: number): string {
  return `${(nBytes / MIB).toFixed(0)} MiB`;
}
