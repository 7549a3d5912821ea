/** The next token of a generation, by its request's own rule. */
import { EngineError } from "../base/errors.ts";
import type { GreedyChoices, StepLogits } from "../model/model.ts";
import { sampleToken, type TokenChoice, topTokens } from "../sampling/sampler.ts";
import { TokenIndex } from "../tokenizer/tokenIndex.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Generation } from "./generation.ts";
import type { GeneratedToken } from "./request.ts";

export class TokenChooser {
  private readonly tokenizer: Tokenizer;
  private readonly index: TokenIndex;

  constructor(tokenizer: Tokenizer) {
    this.tokenizer = tokenizer;
    this.index = new TokenIndex(tokenizer);
  }

  /**
   * The token of `generation` by row `index` of `logits`, whose greedy choices are `greedy`.
   * The log-probability is that under the raw logits; while text is forced, given that the token agrees with it.
   * Throws `internal` when the logits are not finite.
   */
  choose(
    generation: Generation,
    logits: StepLogits,
    greedy: GreedyChoices,
    index: number,
  ): GeneratedToken {
    const logProb = greedy.logProbs[index] ?? Number.NaN;
    if (!Number.isFinite(logProb))
      throw new EngineError("internal", `expected finite logits, found log-probability ${logProb}`);
    const { sampling, nTop } = generation.request;
    const branch = generation.isAtStart ? (generation.request.branch ?? 0) : 0;
    const row = () => logits.row(index);
    const top = nTop > 0 ? topTokens(row(), nTop).map((choice) => this.written(choice)) : [];
    if (generation.remaining.length > 0)
      return { ...this.written(this.agreeing(generation.remaining, row(), branch)), top };
    if (sampling.temperature > 0)
      return { ...this.written(sampleToken(row(), sampling, generation.random)), top };
    const ranked = branch > 0 ? topTokens(row(), branch + 1) : [];
    const choice = ranked.at(-1) ?? { id: greedy.ids[index] ?? 0, logProb };
    return { ...this.written(choice), top };
  }

  /** The most likely token, or the one `branch` places behind it, of those with which `bytes` may begin. logits (vocab). */
  private agreeing(bytes: Uint8Array, logits: Float32Array, branch: number): TokenChoice {
    const ids = this.index.agreeing(bytes);
    const value = (id: number) => logits[id] ?? Number.NEGATIVE_INFINITY;
    ids.sort((a, b) => value(b) - value(a) || a - b);
    const max = value(ids[0] ?? 0);
    const norm = max + Math.log(ids.reduce((sum, id) => sum + Math.exp(value(id) - max), 0));
    // Half a word is one way to begin: only tokens that go beyond it are other answers.
    const ways = ids.filter((id) => this.tokenizer.tokenBytes(id).length > bytes.length);
    const id = (branch > 0 ? (ways[branch] ?? ways.at(-1)) : undefined) ?? ids[0] ?? 0;
    return { id, logProb: value(id) - norm };
  }

  private written(choice: TokenChoice) {
    return { ...choice, text: this.tokenizer.decode([choice.id]) };
  }
}
