/** Random lives of sequences over a small cache: whatever happens, every row reads as written and every block is accounted for. */
import { expect, test } from "vitest";
import { seededRandom } from "../sampling/sampler.ts";
import { integrityProblems } from "./integrity.ts";
import { BLOCK_TOKENS, type KvSequence, PagedKv } from "./pagedKv.ts";

const N_BLOCKS = 14;
const N_STEPS = 400;

/** A cache whose rows are the tokens themselves, and a user who edits, forks, pins and lets go at random. */
class Life {
  private readonly rows: number[][] = Array.from({ length: N_BLOCKS }, () => []);
  readonly kv = new PagedKv(N_BLOCKS, (dst, src) => {
    this.rows[dst] = [...(this.rows[src] ?? [])];
  });
  private readonly running: KvSequence[] = [];
  private document: number[] = [];
  private readonly random: () => number;
  /** Rows that came from the cache; a cache that never helps would pass every other check. */
  nCached = 0;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  step(): void {
    const deeds = [this.edit, this.start, this.start, this.fork, this.extend, this.pin, this.end];
    deeds[this.below(deeds.length)]?.call(this);
    for (const sequence of this.running) expect(this.read(sequence)).toEqual(sequence.tokens);
    expect(integrityProblems(this.kv)).toEqual([]);
  }

  endAll(): void {
    while (this.running.length > 0) this.end();
  }

  private below(n: number): number {
    return Math.floor(this.random() * n);
  }

  private fresh(n: number): number[] {
    return Array.from({ length: n }, () => this.below(3));
  }

  /** Types at the end, deletes there, or goes on from somewhere before. */
  private edit(): void {
    const kept = this.document.slice(0, this.below(this.document.length + 1));
    const base = this.random() < 0.6 ? this.document : kept;
    this.document = [...base, ...this.fresh(1 + this.below(90))].slice(0, 260);
  }

  private start(): void {
    if (this.document.length === 0 || this.running.length > 3) return;
    const sequence = this.kv.acquire(this.document);
    this.nCached += sequence.tokens.length;
    expect(sequence.tokens).toEqual(this.document.slice(0, sequence.tokens.length));
    this.running.push(sequence);
    this.store(sequence, this.document.slice(sequence.tokens.length));
  }

  private fork(): void {
    const source = this.running[this.below(this.running.length)];
    if (source === undefined || this.running.length > 3) return;
    const nTokens = this.below(source.tokens.length + 1);
    const forked = this.kv.fork(source, nTokens);
    if (forked === undefined) return;
    expect(forked.tokens).toEqual(source.tokens.slice(0, nTokens));
    this.running.push(forked);
    this.store(forked, this.fresh(1 + this.below(70)));
  }

  private extend(): void {
    const sequence = this.running[this.below(this.running.length)];
    if (sequence !== undefined) this.store(sequence, this.fresh(1 + this.below(70)));
  }

  private pin(): void {
    const key = `owner ${this.below(3)}`;
    this.kv.pin(key, this.document.slice(0, this.below(this.document.length + 1)));
    expect(this.kv.stats().tokensPinned).toBeLessThanOrEqual((N_BLOCKS * BLOCK_TOKENS) / 2);
  }

  private end(): void {
    const [sequence] = this.running.splice(this.below(this.running.length), 1);
    if (sequence !== undefined) this.kv.release(sequence);
  }

  /** Nothing is stored when the cache is full of running sequences. */
  private store(sequence: KvSequence, tokens: readonly number[]): void {
    const start = sequence.tokens.length;
    if (!this.kv.reserve(sequence, start + tokens.length)) return;
    for (const [i, token] of tokens.entries()) {
      const row = this.rows[sequence.blocks[Math.floor((start + i) / BLOCK_TOKENS)] ?? -1];
      if (row !== undefined) row[(start + i) % BLOCK_TOKENS] = token;
    }
    this.kv.commit(sequence, tokens);
  }

  private read(sequence: KvSequence): number[] {
    const { length } = sequence.tokens;
    return sequence.blocks
      .flatMap((block) => (this.rows[block] ?? []).slice(0, BLOCK_TOKENS))
      .slice(0, length);
  }
}

test.each(Array.from({ length: 25 }, (_, i) => i + 1))("random life %i", (seed) => {
  const life = new Life(seed);
  for (let i = 0; i < N_STEPS; i++) life.step();
  expect(life.nCached).toBeGreaterThan(100);
  life.endAll();
  expect(life.kv.stats().blocksUsed).toBe(0);
  expect(integrityProblems(life.kv)).toEqual([]);
});
