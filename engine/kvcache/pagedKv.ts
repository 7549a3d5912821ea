/**
 * Hands out the blocks of the KV cache to sequences, and keeps what finished sequences leave for the next ones.
 *
 *   acquire ──► KvSequence ── reserve, commit (full blocks enter the tree and are shared) ──► release (the tail enters too)
 *
 * A block is written by one sequence only: shared blocks are full, and a partly matching block is copied first.
 * Blocks in the tree that no sequence holds are evicted, least recently used first, when no block is free.
 */
import { BlockPool } from "./blockPool.ts";
import { type PrefixNode, PrefixTree } from "./prefixTree.ts";

/** Tokens per block: EK_KV_BLOCK. */
export const BLOCK_TOKENS = 64;

/** The rows of one running sequence. Only PagedKv changes it. */
export interface KvSequence {
  /** Block ids in order; the last may be partly filled, and blocks reserved ahead follow. */
  readonly blocks: number[];
  /** Tokens whose rows are stored. */
  readonly tokens: number[];
  /** Deepest node of the tree that holds a block of this sequence. */
  node: PrefixNode;
}

export interface KvStats {
  blocksTotal: number;
  /** Held by running sequences. */
  blocksUsed: number;
  /** Held by the tree alone: reusable, and free when needed. */
  blocksCached: number;
  /** Tokens that the tree holds. */
  tokensCached: number;
  /** Of those, tokens that are kept for their owners whatever else is used. */
  tokensPinned: number;
}

export class PagedKv {
  readonly pool: BlockPool;
  readonly tree = new PrefixTree();
  readonly sequences = new Set<KvSequence>();
  /** Nodes that stay, by the name that their owner gave; the oldest name first. */
  private readonly pins = new Map<string, readonly PrefixNode[]>();
  private readonly copyBlock: (dst: number, src: number) => void;

  /** `copyBlock` copies all rows of a block, in all layers. */
  constructor(nBlocks: number, copyBlock: (dst: number, src: number) => void) {
    this.pool = new BlockPool(nBlocks);
    this.copyBlock = copyBlock;
  }

  /**
   * Starts a sequence that will hold `tokens`, with the longest prefix of them that is cached.
   * The last token is never taken from the cache, since somebody wants its logits.
   */
  acquire(tokens: readonly number[]): KvSequence {
    const sequence: KvSequence = { blocks: [], tokens: [], node: this.tree.root };
    this.sequences.add(sequence);
    const limit = tokens.length - 1;
    while (sequence.tokens.length + BLOCK_TOKENS <= limit) {
      const at = sequence.tokens.length;
      const child = this.tree.child(sequence.node, tokens.slice(at, at + BLOCK_TOKENS));
      if (child === undefined) break;
      this.pool.retain(child.block);
      sequence.blocks.push(child.block);
      sequence.tokens.push(...child.tokens);
      sequence.node = child;
    }
    this.copyPartial(sequence, tokens, limit);
    return sequence;
  }

  /**
   * Starts a sequence with the first `nTokens` rows of `source`: full blocks are shared, a partly filled one is copied.
   * Undefined when no block is free for the copy, or when `source` has fewer rows.
   */
  fork(source: KvSequence, nTokens: number): KvSequence | undefined {
    const nFull = Math.floor(nTokens / BLOCK_TOKENS);
    if (nTokens > source.tokens.length) return undefined;
    const partial = nTokens % BLOCK_TOKENS === 0 ? undefined : source.blocks[nFull];
    const copy = partial === undefined ? undefined : this.takeBlock();
    if (partial !== undefined && copy === undefined) return undefined;
    const blocks = source.blocks.slice(0, nFull);
    for (const block of blocks) this.pool.retain(block);
    if (partial !== undefined && copy !== undefined) {
      this.copyBlock(copy, partial);
      blocks.push(copy);
    }
    let node = source.node;
    for (let depth = this.tree.depth(node); depth > nFull; depth--) node = node.parent ?? node;
    const sequence = { blocks, tokens: source.tokens.slice(0, nTokens), node };
    this.sequences.add(sequence);
    return sequence;
  }

  /**
   * Keeps the full blocks of `tokens` that are cached, under `key`, which loses what it kept before.
   * Pinned blocks are evicted only for running sequences that find no other; the oldest pins go when all together
   * would take more than half of the cache. Returns how many tokens are kept.
   */
  pin(key: string, tokens: readonly number[]): number {
    this.pins.delete(key);
    for (const [name, kept] of this.pins)
      if (!kept.some((node) => this.tree.nodes.has(node))) this.pins.delete(name);
    const nodes = this.tree.path(tokens, BLOCK_TOKENS).slice(0, Math.floor(this.pool.nBlocks / 2));
    if (nodes.length > 0) this.pins.set(key, nodes);
    while (this.pinned().size > this.pool.nBlocks / 2) {
      const [oldest] = this.pins.keys();
      if (oldest === undefined || oldest === key) break;
      this.pins.delete(oldest);
    }
    return nodes.length * BLOCK_TOKENS;
  }

  /** Makes room for `nTokens` tokens in all; false when the cache is full of running sequences. */
  reserve(sequence: KvSequence, nTokens: number): boolean {
    while (sequence.blocks.length * BLOCK_TOKENS < nTokens) {
      const block = this.takeBlock();
      if (block === undefined) return false;
      sequence.blocks.push(block);
    }
    return true;
  }

  /** Says that the rows of `tokens`, which follow those stored so far, are written now. Blocks that are full become shared. */
  commit(sequence: KvSequence, tokens: readonly number[]): void {
    let nFull = Math.floor(sequence.tokens.length / BLOCK_TOKENS);
    for (const token of tokens) sequence.tokens.push(token);
    for (; (nFull + 1) * BLOCK_TOKENS <= sequence.tokens.length; nFull++)
      this.publish(sequence, nFull);
  }

  /** Ends the sequence; its rows stay for others until they are evicted. */
  release(sequence: KvSequence): void {
    if (!this.sequences.delete(sequence)) return;
    const nFull = Math.floor(sequence.tokens.length / BLOCK_TOKENS);
    const tail = sequence.tokens.slice(nFull * BLOCK_TOKENS);
    const block = sequence.blocks[nFull];
    if (tail.length > 0 && block !== undefined && !this.tree.covers(sequence.node, tail)) {
      this.dropReplacedTails(sequence.node, tail);
      this.pool.retain(block);
      this.tree.addTail(sequence.node, block, tail);
    }
    for (const held of sequence.blocks) this.pool.release(held);
  }

  stats(): KvStats {
    let blocksCached = 0;
    let tokensCached = 0;
    for (const node of this.tree.nodes) {
      tokensCached += node.tokens.length;
      if (this.pool.refCount(node.block) === 1) blocksCached++;
    }
    const blocksUsed = this.pool.nBlocks - this.pool.nFree - blocksCached;
    const tokensPinned = this.pinned().size * BLOCK_TOKENS;
    return { blocksTotal: this.pool.nBlocks, blocksUsed, blocksCached, tokensCached, tokensPinned };
  }

  private copyPartial(sequence: KvSequence, tokens: readonly number[], limit: number): void {
    const at = sequence.tokens.length;
    const best = this.tree.bestPartial(sequence.node, tokens, at, limit - at);
    if (best === undefined) return;
    // Held meanwhile, so that making room does not evict the block that is about to be copied.
    this.pool.retain(best.node.block);
    const block = this.takeBlock();
    if (block !== undefined) {
      this.copyBlock(block, best.node.block);
      sequence.blocks.push(block);
      sequence.tokens.push(...best.node.tokens.slice(0, best.nCommon));
    }
    this.pool.release(best.node.block);
  }

  /** Puts block `index` of the sequence, which is full, into the tree; an equal block that is there already takes its place. */
  private publish(sequence: KvSequence, index: number): void {
    const own = sequence.blocks[index];
    if (own === undefined) return;
    const tokens = sequence.tokens.slice(index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS);
    const existing = this.tree.child(sequence.node, tokens);
    this.pool.retain(existing?.block ?? own);
    if (existing === undefined) {
      this.dropReplacedTails(sequence.node, tokens);
      sequence.node = this.tree.addFull(sequence.node, own, tokens);
    } else {
      this.pool.release(own);
      sequence.blocks[index] = existing.block;
      sequence.node = existing;
    }
  }

  private dropReplacedTails(parent: PrefixNode, tokens: readonly number[]): void {
    for (const tail of this.tree.replacedTails(parent, tokens)) this.evict(tail);
  }

  private takeBlock(): number | undefined {
    if (this.pool.nFree === 0) {
      const isIdle = (node: PrefixNode) => this.pool.refCount(node.block) === 1;
      const pinned = this.pinned();
      const oldest =
        this.tree.oldestLeaf((node) => isIdle(node) && !pinned.has(node)) ??
        this.tree.oldestLeaf(isIdle);
      if (oldest !== undefined) this.evict(oldest);
    }
    return this.pool.take();
  }

  /** Nodes that are pinned and still in the tree. */
  private pinned(): Set<PrefixNode> {
    return new Set([...this.pins.values()].flat().filter((node) => this.tree.nodes.has(node)));
  }

  private evict(node: PrefixNode): void {
    this.tree.remove(node);
    this.pool.release(node.block);
  }
}
