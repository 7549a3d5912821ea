/**
 * Which token sequences have rows in the cache. Each edge is one block of tokens; a path from the root is a prefix.
 *
 *   root ─ [64 tokens] ─ [64 tokens] ─ tail [1..63 tokens]
 *                     └─ [64 tokens]
 *
 * Full blocks are found by their tokens as a key (exact, so there are no collisions); tails end finished sequences.
 * A tree belongs to one loaded model and ends with it, so the model is not part of the key.
 */

export interface PrefixNode {
  readonly parent: PrefixNode | undefined;
  /** -1 at the root. */
  readonly block: number;
  readonly tokens: readonly number[];
  readonly key: string;
  readonly children: Map<string, PrefixNode>;
  /** Partly filled last blocks of finished sequences. */
  readonly tails: Set<PrefixNode>;
  /** Tick of the last use: the smallest goes first. */
  lastUse: number;
}

/** Two UTF-16 units per token: exact for any vocabulary below 2^32. */
function keyOf(tokens: readonly number[]): string {
  let key = "";
  for (const token of tokens) key += String.fromCharCode(token & 0xffff, token >>> 16);
  return key;
}

/** How many tokens of `a` equal those of `b` from `from` on, at most `limit`. */
function commonLength(
  a: readonly number[],
  b: readonly number[],
  from: number,
  limit: number,
): number {
  const end = Math.min(a.length, limit, b.length - from);
  let n = 0;
  while (n < end && a[n] === b[from + n]) n++;
  return n;
}

export class PrefixTree {
  readonly root: PrefixNode = newNode(undefined, -1, []);
  private readonly all = new Set<PrefixNode>();
  private tick = 0;

  /** Every node but the root. */
  get nodes(): ReadonlySet<PrefixNode> {
    return this.all;
  }

  /** The child of `node` that holds exactly `tokens` (a full block). */
  child(node: PrefixNode, tokens: readonly number[]): PrefixNode | undefined {
    const child = node.children.get(keyOf(tokens));
    if (child !== undefined) this.touch(child);
    return child;
  }

  /** The nodes that hold the leading full blocks of `tokens`, from the root down. */
  path(tokens: readonly number[], blockTokens: number): PrefixNode[] {
    const nodes: PrefixNode[] = [];
    let node = this.root;
    for (let at = 0; at + blockTokens <= tokens.length; at += blockTokens) {
      const child = this.child(node, tokens.slice(at, at + blockTokens));
      if (child === undefined) break;
      nodes.push(child);
      node = child;
    }
    return nodes;
  }

  /** How many blocks lead to `node` from the root. */
  depth(node: PrefixNode): number {
    let n = 0;
    for (let at = node.parent; at !== undefined; at = at.parent) n++;
    return n;
  }

  /** The block below `node` that shares most leading tokens with `tokens` from `from` on, and how many (at most `limit`). */
  bestPartial(
    node: PrefixNode,
    tokens: readonly number[],
    from: number,
    limit: number,
  ): { node: PrefixNode; nCommon: number } | undefined {
    let best: { node: PrefixNode; nCommon: number } | undefined;
    for (const group of [node.tails, node.children.values()]) {
      for (const candidate of group) {
        const nCommon = commonLength(candidate.tokens, tokens, from, limit);
        if (nCommon > (best?.nCommon ?? 0)) best = { node: candidate, nCommon };
      }
    }
    if (best !== undefined) this.touch(best.node);
    return best;
  }

  /** Adds a full block below `parent`, where no equal one may stand. */
  addFull(parent: PrefixNode, block: number, tokens: readonly number[]): PrefixNode {
    const node = newNode(parent, block, tokens);
    parent.children.set(node.key, node);
    return this.added(node);
  }

  /** Adds the partly filled last block of a finished sequence. */
  addTail(parent: PrefixNode, block: number, tokens: readonly number[]): PrefixNode {
    const node = newNode(parent, block, tokens);
    parent.tails.add(node);
    return this.added(node);
  }

  /** Whether a block below `parent` begins with all of `tokens`, so that a tail with them adds nothing. */
  covers(parent: PrefixNode, tokens: readonly number[]): boolean {
    return this.bestPartial(parent, tokens, 0, tokens.length)?.nCommon === tokens.length;
  }

  /** Tails below `parent` that `tokens` begin with: a block with these tokens replaces them. */
  replacedTails(parent: PrefixNode, tokens: readonly number[]): PrefixNode[] {
    const isStart = (tail: PrefixNode) =>
      commonLength(tail.tokens, tokens, 0, tokens.length) === tail.tokens.length;
    return [...parent.tails].filter(isStart);
  }

  /** Takes a leaf out of the tree. */
  remove(node: PrefixNode): void {
    node.parent?.children.delete(node.key);
    node.parent?.tails.delete(node);
    this.all.delete(node);
  }

  /** The leaf that was unused longest among those that `mayGo`. */
  oldestLeaf(mayGo: (node: PrefixNode) => boolean): PrefixNode | undefined {
    let oldest: PrefixNode | undefined;
    for (const node of this.all) {
      if (node.children.size > 0 || node.tails.size > 0) continue;
      if (oldest !== undefined && node.lastUse >= oldest.lastUse) continue;
      if (mayGo(node)) oldest = node;
    }
    return oldest;
  }

  private added(node: PrefixNode): PrefixNode {
    this.all.add(node);
    this.touch(node);
    return node;
  }

  private touch(node: PrefixNode): void {
    node.lastUse = ++this.tick;
  }
}

function newNode(
  parent: PrefixNode | undefined,
  block: number,
  tokens: readonly number[],
): PrefixNode {
  return {
    parent,
    block,
    tokens,
    key: keyOf(tokens),
    children: new Map(),
    tails: new Set(),
    lastUse: 0,
  };
}
