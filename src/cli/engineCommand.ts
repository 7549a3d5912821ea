import { spawn } from "node:child_process";
import { engineScript } from "./productFiles.ts";

/** Runs the engine bundle with `args` on this terminal and takes over its exit code. */
export function engineCommand(args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [engineScript(), ...args], { stdio: "inherit" });
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  const signals: NodeJS.Signals[] = ["SIGINT", "SIGTERM"];
  for (const signal of signals) process.on(signal, pass);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      for (const name of signals) process.off(name, pass);
      if (signal) reject(new Error(`the engine was ended by ${signal}`));
      else {
        process.exitCode = code ?? 1;
        resolve();
      }
    });
  });
}
