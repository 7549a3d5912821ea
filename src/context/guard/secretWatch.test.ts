import fc from "fast-check";
import { expect, test } from "vitest";
import { secretIn } from "./secretText.ts";
import { SecretWatch } from "./secretWatch.ts";

const KEY = `ghp_${"a1B2".repeat(9)}`;
const filler = "\nconst value = compute(other, 12);".repeat(400);

test("finds a secret that is typed or pasted, and forgets it when it is deleted", () => {
  const watch = new SecretWatch();
  expect(watch.hasSecret(filler, filler)).toBe(false);
  for (let n = 1; n < KEY.length; n++)
    expect(watch.hasSecret(`${filler}\n${KEY.slice(0, n)}`, filler)).toBe(false);
  expect(watch.hasSecret(`${filler}\n${KEY}`, filler)).toBe(true);
  expect(watch.hasSecret(`${filler}\n${KEY}\n`, filler)).toBe(true);
  expect(watch.hasSecret(filler, filler)).toBe(false);
  expect(watch.hasSecret(`${filler}\nghp_`, `${"a1B2".repeat(9)}\n`)).toBe(true);
});

test("says at every state what a look at the whole text says", () => {
  const part = fc.constantFrom(
    KEY,
    filler,
    "x\n",
    'password = "',
    'Tr0ub4dor&3xyz"\n',
    "ghp_",
    "a1B2".repeat(9),
  );
  const state = fc.tuple(fc.array(part, { maxLength: 4 }), fc.array(part, { maxLength: 2 }));
  fc.assert(
    fc.property(fc.array(state, { maxLength: 8 }), (states) => {
      const watch = new SecretWatch();
      for (const [before, after] of states) {
        const [a, b] = [before.join(""), after.join("")];
        expect(watch.hasSecret(a, b)).toBe(secretIn(a + b) !== undefined);
      }
    }),
    { numRuns: 60 },
  );
});
