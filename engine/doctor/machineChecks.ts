/** The machine and the runtime: what the engine needs of them before it is started. */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { type Check, ok, warn } from "./check.ts";

/** Features that the kernels have code for, by the names that Linux gives them. */
const KNOWN_FEATURES = [
  "avx2",
  "fma",
  "f16c",
  "avx512f",
  "avx512bw",
  "avx512vl",
  "avx512_vnni",
  "asimd",
  "asimddp",
];
const OLDEST_NODE = [20, 19] as const;
const ENOUGH_MEMORY = 512 * 1024 * 1024;
const GIB = 1024 ** 3;

/** Whether Node is as new as package.json asks for; VS Code brings its own. */
export function nodeCheck(version: string): Check {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  const found = `Node ${version} on ${process.platform}-${process.arch}`;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor))
    return ok("runtime", found);
  return warn("runtime", found, `use Node ${oldestMajor}.${oldestMinor} or newer`);
}

/** Name, cores and the vector instructions that the machine offers. */
export function cpuCheck(): Check {
  const features = cpuFeatures();
  const list = features.length > 0 ? features.join(" ") : "features not listed by this system";
  const name = cpus()[0]?.model.trim() ?? "unknown";
  return ok("CPU", `${name}, ${availableParallelism()} cores, ${list}`);
}

/** `freeBytes`: memory that programs can still get. */
export function memoryCheck(freeBytes: number = freemem(), totalBytes: number = totalmem()): Check {
  const found = `${(freeBytes / GIB).toFixed(1)} of ${(totalBytes / GIB).toFixed(1)} GiB available`;
  return freeBytes >= ENOUGH_MEMORY
    ? ok("memory", found)
    : warn("memory", found, "close programs: the engine needs about 0.3 GiB");
}

function cpuFeatures(): string[] {
  try {
    const text = readFileSync("/proc/cpuinfo", "utf8");
    const line = /^(?:flags|Features)\s*:(.*)$/m.exec(text)?.[1] ?? "";
    const all = new Set(line.trim().split(/\s+/));
    return KNOWN_FEATURES.filter((feature) => all.has(feature));
  } catch {
    // Only Linux has this file; the instruction set that the kernels chose is reported in any case.
    return [];
  }
}
