/** Checks the whole bookkeeping of the cache; run after every test of the engine, and cheap enough to run when idle. */
import { BLOCK_TOKENS, type PagedKv } from "./pagedKv.ts";

/** What is wrong with `kv`, one line each; empty when every block has exactly the owners that it counts. */
export function integrityProblems(kv: PagedKv): string[] {
  const problems: string[] = [];
  const owners = new Int32Array(kv.pool.nBlocks);
  const own = (block: number, who: string) => {
    if (block < 0 || block >= owners.length)
      problems.push(`${who} holds block ${block}, which does not exist`);
    else owners[block] = (owners[block] ?? 0) + 1;
  };
  for (const node of kv.tree.nodes) {
    own(node.block, "the tree");
    const isFull = node.tokens.length === BLOCK_TOKENS;
    const siblings = isFull ? node.parent?.children.get(node.key) : node.parent?.tails.has(node);
    if (siblings !== (isFull ? node : true))
      problems.push(`block ${node.block} is not below its parent`);
    if (
      node.parent !== kv.tree.root &&
      (node.parent === undefined || !kv.tree.nodes.has(node.parent))
    ) {
      problems.push(`block ${node.block} hangs below a node that left the tree`);
    }
  }
  for (const sequence of kv.sequences) {
    for (const block of sequence.blocks) own(block, "a sequence");
    if (sequence.blocks.length * BLOCK_TOKENS < sequence.tokens.length) {
      problems.push(
        `a sequence of ${sequence.tokens.length} tokens holds ${sequence.blocks.length} blocks`,
      );
    }
  }
  const free = new Set(kv.pool.freeBlocks());
  if (free.size !== kv.pool.nFree) problems.push("a block is free twice");
  for (const [block, count] of owners.entries()) {
    if (kv.pool.refCount(block) !== count) {
      problems.push(`block ${block} counts ${kv.pool.refCount(block)} owners, found ${count}`);
    }
    if (free.has(block) !== (count === 0))
      problems.push(`block ${block} with ${count} owners: free is ${free.has(block)}`);
  }
  return problems;
}
