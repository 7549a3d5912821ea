/** Shapes of request bodies (engine/protocol/api.ts). Unknown fields are ignored, as other servers do. */
import * as v from "valibot";

const count = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(max));
const sampling = {
  temperature: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(100)), 0),
  top_p: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 1),
  seed: v.optional(v.pipe(v.number(), v.safeInteger()), 0),
};
const stops = v.pipe(v.array(v.string()), v.maxLength(64));

const extra = v.optional(v.array(v.object({ filename: v.string(), text: v.string() })), []);

export const infillSchema = v.object({
  ...sampling,
  input_prefix: v.string(),
  input_suffix: v.string(),
  input_extra: extra,
  filename: v.optional(v.string()),
  n_predict: v.optional(count(1 << 20), 128),
  top_k: v.optional(count(1 << 20), 0),
  stop: v.optional(stops, []),
  stream: v.optional(v.boolean(), false),
  priority: v.optional(v.picklist(["completion", "chat", "prefill"]), "completion"),
  n: v.optional(v.pipe(count(8), v.minValue(1)), 1),
  heal: v.optional(v.boolean(), true),
});

export const prefillSchema = v.object({
  input_extra: extra,
  input_prefix: v.optional(v.string(), ""),
  input_suffix: v.optional(v.string(), ""),
  filename: v.optional(v.string()),
  resident: v.optional(v.pipe(v.string(), v.maxLength(4096))),
});

export const completionSchema = v.object({
  ...sampling,
  prompt: v.string(),
  suffix: v.optional(v.string()),
  max_tokens: v.optional(count(1 << 20), 16),
  n: v.optional(v.pipe(count(16), v.minValue(1)), 1),
  stop: v.optional(v.union([v.string(), stops]), []),
  logprobs: v.optional(count(20)),
  stream: v.optional(v.boolean(), false),
});

export const tokenizeSchema = v.object({ content: v.string() });
export const detokenizeSchema = v.object({ tokens: v.array(count(2 ** 31)) });

export type InfillBody = v.InferOutput<typeof infillSchema>;
export type PrefillBody = v.InferOutput<typeof prefillSchema>;
export type CompletionBody = v.InferOutput<typeof completionSchema>;
