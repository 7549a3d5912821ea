/** Which blocks of the KV cache are free, and how many owners each used block has. Knows nothing of tokens. */
import { EngineError } from "../base/errors.ts";

export class BlockPool {
  readonly nBlocks: number;
  private readonly free: number[];
  private readonly refs: Int32Array;

  constructor(nBlocks: number) {
    this.nBlocks = nBlocks;
    this.refs = new Int32Array(nBlocks);
    // Low ids first, so that a small working set touches few pages.
    this.free = Array.from({ length: nBlocks }, (_, i) => nBlocks - 1 - i);
  }

  get nFree(): number {
    return this.free.length;
  }

  refCount(block: number): number {
    return this.refs[block] ?? 0;
  }

  /** A free block with one owner, or undefined when none is free. */
  take(): number | undefined {
    const block = this.free.pop();
    if (block !== undefined) this.refs[block] = 1;
    return block;
  }

  /** Adds an owner to a used block. */
  retain(block: number): void {
    this.refs[block] = this.used(block) + 1;
  }

  /** Takes an owner away; the last one frees the block. */
  release(block: number): void {
    const left = this.used(block) - 1;
    this.refs[block] = left;
    if (left === 0) this.free.push(block);
  }

  /** Ids of the free blocks, for the integrity check. */
  freeBlocks(): readonly number[] {
    return this.free;
  }

  private used(block: number): number {
    const count = this.refCount(block);
    if (count <= 0)
      throw new EngineError("internal", `expected block ${block} in use, found it free`);
    return count;
  }
}
