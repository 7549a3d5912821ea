import { spawn } from "node:child_process";
import type { Logger } from "../base/logger.ts";

/** Runs the engine's own check, with the user's `args`, and writes what it says to the log; resolves with true when nothing is wrong. */
export function runDoctor(script: string, args: readonly string[], log: Logger): Promise<boolean> {
  const env = { ...process.env, ELECTRON_RUN_AS_NODE: "1" };
  const child = spawn(process.execPath, [script, "doctor", ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      for (const line of text.trimEnd().split(/\r?\n/)) log.info(line);
      resolve(code === 0);
    });
  });
}
