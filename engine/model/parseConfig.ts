/** The architectures of model files that this engine runs. */
import type { GgufFile } from "../loader/gguf.ts";
import { choiceKey } from "../loader/metadata.ts";
import { parseDeepseek2Config } from "./deepseek2Config.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";
import { parseTidepoolConfig } from "./tidepoolConfig.ts";

const PARSERS = { tidepool: parseTidepoolConfig, deepseek2: parseDeepseek2Config } as const;
type Architecture = keyof typeof PARSERS;
const architectures = Object.keys(PARSERS) as Architecture[];

/** Parses and checks the metadata of `gguf`. Throws `bad_model` naming the key, what was expected and what was found. */
export function parseMlaMoeConfig(gguf: GgufFile): MlaMoeConfig {
  return PARSERS[choiceKey(gguf, "general.architecture", architectures)](gguf);
}
