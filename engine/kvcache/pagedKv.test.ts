import { expect, test } from "vitest";
import { integrityProblems } from "./integrity.ts";
import { BLOCK_TOKENS, type KvSequence, PagedKv } from "./pagedKv.ts";

/** A cache whose "rows" are the tokens themselves, so that a test sees what a sequence would read. */
function fakeCache(nBlocks: number) {
  const rows = Array.from({ length: nBlocks }, () => new Array<number>(BLOCK_TOKENS).fill(-1));
  const kv = new PagedKv(nBlocks, (dst, src) => {
    rows[dst] = [...(rows[src] ?? [])];
  });
  return {
    kv,
    store(sequence: KvSequence, tokens: readonly number[]): boolean {
      const start = sequence.tokens.length;
      if (!kv.reserve(sequence, start + tokens.length)) return false;
      for (const [i, token] of tokens.entries()) {
        const row = rows[sequence.blocks[Math.floor((start + i) / BLOCK_TOKENS)] ?? -1];
        if (row !== undefined) row[(start + i) % BLOCK_TOKENS] = token;
      }
      kv.commit(sequence, tokens);
      return true;
    },
    read: (sequence: KvSequence) =>
      sequence.blocks.flatMap((b) => rows[b] ?? []).slice(0, sequence.tokens.length),
    check: () => expect(integrityProblems(kv)).toEqual([]),
  };
}

const range = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);

function run(cache: ReturnType<typeof fakeCache>, tokens: readonly number[]): number {
  const sequence = cache.kv.acquire(tokens);
  const nCached = sequence.tokens.length;
  expect(cache.store(sequence, tokens.slice(nCached))).toBe(true);
  expect(cache.read(sequence)).toEqual(tokens);
  cache.kv.release(sequence);
  cache.check();
  return nCached;
}

test.each([
  ["the same prompt", range(200), 199],
  ["a prompt that goes on", range(300), 200],
  ["a prompt that ends inside a block", range(100), 99],
  ["a prompt of whole blocks", range(128), 127],
  ["a prompt that shares 100 tokens", [...range(100), ...range(50, 1000)], 100],
  ["a prompt that shares one token", [0, ...range(10, 500)], 1],
  ["another prompt", range(80, 700), 0],
])("after 200 tokens, %s reuses what it shares", (_name, tokens, expected) => {
  const cache = fakeCache(32);
  expect(run(cache, range(200))).toBe(0);
  expect(run(cache, tokens)).toBe(expected);
});

test("two running sequences share full blocks and never write into each other's", () => {
  const cache = fakeCache(32);
  const a = cache.kv.acquire(range(150));
  cache.store(a, range(150));
  const b = cache.kv.acquire([...range(128), ...range(20, 900)]);
  expect(b.tokens.length).toBe(128);
  cache.store(b, range(20, 900));
  cache.store(a, range(30, 150));
  expect(b.blocks.slice(0, 2)).toEqual(a.blocks.slice(0, 2));
  expect(cache.read(a)).toEqual(range(180));
  expect(cache.read(b)).toEqual([...range(128), ...range(20, 900)]);
  cache.check();
  cache.kv.release(a);
  cache.kv.release(b);
  cache.check();
  expect(cache.kv.stats().blocksUsed).toBe(0);
});

test("equal sequences that ran side by side end up on the same blocks", () => {
  const cache = fakeCache(32);
  const [a, b] = [cache.kv.acquire(range(130)), cache.kv.acquire(range(130))];
  cache.store(a, range(130));
  cache.store(b, range(130));
  expect(b.blocks.slice(0, 2)).toEqual(a.blocks.slice(0, 2));
  cache.check();
  cache.kv.release(a);
  cache.kv.release(b);
  expect(cache.kv.stats()).toMatchObject({ blocksUsed: 0, blocksCached: 3, tokensCached: 130 });
});

test("a longer tail replaces the shorter ones, as when somebody types", () => {
  const cache = fakeCache(32);
  for (let n = 70; n < 90; n++) run(cache, range(n));
  expect(cache.kv.stats().blocksCached).toBe(2);
});

test("the least recently used prefix goes first", () => {
  const cache = fakeCache(4);
  run(cache, range(100));
  run(cache, range(100, 1000));
  run(cache, range(100));
  run(cache, range(60, 5000));
  expect(run(cache, range(100))).toBe(99);
});

test("a full cache refuses, and goes on when a sequence ends", () => {
  const cache = fakeCache(4);
  const a = cache.kv.acquire(range(190));
  expect(cache.store(a, range(190))).toBe(true);
  const b = cache.kv.acquire(range(200, 500));
  expect(cache.kv.reserve(b, 200)).toBe(false);
  cache.check();
  cache.kv.release(a);
  expect(cache.store(b, range(200, 500))).toBe(true);
  cache.kv.release(b);
  cache.kv.release(b);
  cache.check();
});

test("random work never breaks the bookkeeping", () => {
  const cache = fakeCache(12);
  const live: KvSequence[] = [];
  let seed = 7;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  for (let i = 0; i < 3000; i++) {
    const tokens = [...range(random(160)), ...range(random(100), 1000 * random(3))];
    if (live.length < 4 && tokens.length > 0) {
      const sequence = cache.kv.acquire(tokens);
      live.push(sequence);
      cache.store(sequence, tokens.slice(sequence.tokens.length));
    }
    const chosen = live[random(live.length + 1)];
    if (chosen !== undefined) {
      const before = [...chosen.tokens];
      if (cache.store(chosen, range(random(70), random(50))))
        expect(cache.read(chosen).slice(0, before.length)).toEqual(before);
      if (random(2) === 0) {
        cache.kv.release(chosen);
        live.splice(live.indexOf(chosen), 1);
      }
    }
    cache.check();
  }
  for (const sequence of live) cache.kv.release(sequence);
  cache.check();
  expect(cache.kv.stats().blocksUsed).toBe(0);
});

test("pins give way to a running sequence that finds no other block", () => {
  const cache = fakeCache(8);
  run(cache, range(4 * BLOCK_TOKENS));
  expect(cache.kv.pin("w", range(4 * BLOCK_TOKENS))).toBe(4 * BLOCK_TOKENS);
  run(cache, range(8 * BLOCK_TOKENS, 1000));
  expect(cache.kv.stats().tokensPinned).toBe(0);
});

test("an owner that pins again lets go of what it kept", () => {
  const cache = fakeCache(16);
  run(cache, range(2 * BLOCK_TOKENS));
  run(cache, range(3 * BLOCK_TOKENS, 500));
  cache.kv.pin("w", range(2 * BLOCK_TOKENS));
  cache.kv.pin("w", range(3 * BLOCK_TOKENS, 500));
  expect(cache.kv.stats().tokensPinned).toBe(3 * BLOCK_TOKENS);
  cache.kv.pin("w", []);
  expect(cache.kv.stats().tokensPinned).toBe(0);
});

test("beyond half of the cache the oldest pins go", () => {
  const cache = fakeCache(8);
  run(cache, range(3 * BLOCK_TOKENS));
  run(cache, range(3 * BLOCK_TOKENS, 500));
  cache.kv.pin("a", range(3 * BLOCK_TOKENS));
  cache.kv.pin("b", range(3 * BLOCK_TOKENS, 500));
  expect(cache.kv.stats().tokensPinned).toBe(3 * BLOCK_TOKENS);
  expect(run(cache, range(3 * BLOCK_TOKENS, 500))).toBe(3 * BLOCK_TOKENS - 1);
});
