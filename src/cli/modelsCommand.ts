import { withEngine } from "./engineSession.ts";

/** `models info MODEL`: what the engine says of a model, by name or path, when it has loaded it. */
export async function modelInfo(nameOrPath: string): Promise<void> {
  const model = await withEngine(nameOrPath, ({ health }) => Promise.resolve(health.model));
  process.stdout.write(`${JSON.stringify(model, undefined, 2)}\n`);
}
