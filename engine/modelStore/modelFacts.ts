/** What a model file says of itself in its header: enough to choose a model without loading it. */
import { freemem } from "node:os";
import { type GgufFile, readGguf } from "../loader/gguf.ts";
import type { TensorTypeName } from "../loader/ggufTensors.ts";
import { planMemory } from "../model/memoryPlan.ts";
import { parseMlaMoeConfig } from "../model/parseConfig.ts";

export interface ModelFacts {
  bytes: number;
  /** The type of most of the weights' bytes. */
  quantisation: TensorTypeName;
  contextLength: number;
  /** Whether it was trained to fill in the middle: it has the tokens, and is not an instruction-tuned model. */
  fimTrained: boolean;
  /** Whether it fits into the memory that is free now, with a cache of 16 384 tokens. */
  fits: boolean;
  /** Tells the file from another version of it. */
  fingerprint: string;
}

const FIM_TOKENS = ["<｜fim▁hole｜>", "<|fim_middle|>"];
/** Tokens of which a session with large files makes use. */
const USUAL_CONTEXT = 16_384;

/** Reads and checks the header of the model file at `path`. Throws `bad_model` for what this engine cannot run. */
export function modelFacts(path: string, freeBytes: number = freemem()): ModelFacts {
  const gguf = readGguf(path);
  const config = parseMlaMoeConfig(gguf);
  return {
    bytes: gguf.fileBytes,
    quantisation: mostBytes(gguf),
    contextLength: config.contextLength,
    fimTrained: isFimTrained(gguf),
    fits:
      planMemory(gguf, config, Math.min(config.contextLength, USUAL_CONTEXT)).total <= freeBytes,
    fingerprint: gguf.fingerprint,
  };
}

function mostBytes(gguf: GgufFile): TensorTypeName {
  const bytes = new Map<TensorTypeName, number>();
  for (const { type, nBytes } of gguf.tensors.values())
    bytes.set(type, (bytes.get(type) ?? 0) + nBytes);
  const [most] = [...bytes].sort((a, b) => b[1] - a[1]);
  return most?.[0] ?? "F32";
}

function isFimTrained(gguf: GgufFile): boolean {
  const tokens = gguf.metadata.get("tokenizer.ggml.tokens");
  const name = String(gguf.metadata.get("general.name") ?? "");
  if (!Array.isArray(tokens) || /instruct|chat/i.test(name)) return false;
  return FIM_TOKENS.some((token) => (tokens as readonly unknown[]).includes(token));
}
