import { expect, test } from "vitest";
import { RepositoryIndex } from "../repositoryIndex.ts";
import { Scratch, scratchOf } from "./scratch.ts";

test("gives zeros, whatever was left in an array", () => {
  const scratch = new Scratch();
  scratch.floats("votes", 4).fill(7);
  scratch.ints(4).fill(7);
  expect([...scratch.floats("votes", 3)]).toEqual([0, 0, 0]);
  expect([...scratch.floats("votes", 4)]).toEqual([0, 0, 0, 0]);
  expect([...scratch.ints(4)]).toEqual([0, 0, 0, 0]);
});

test("keeps what an array holds when it grows, and gives zeros behind it", () => {
  const scratch = new Scratch();
  scratch.floats("evidence", 8).fill(7);
  for (let again = 0; again < 2; again++) {
    const held = scratch.floats("evidence", 2);
    held.set([1, 2]);
    expect([...scratch.twice("evidence", scratch.twice("evidence", held))]).toEqual([
      1, 2, 0, 0, 0, 0, 0, 0,
    ]);
  }
});

test("keeps the arrays of one index", () => {
  const index = new RepositoryIndex();
  expect(scratchOf(index)).toBe(scratchOf(index));
  expect(scratchOf(index)).not.toBe(scratchOf(new RepositoryIndex()));
});
