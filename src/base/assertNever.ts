/** Ends a switch over a closed union: a forgotten case is a compile error here. */
export function assertNever(value: never): never {
  throw new Error(`expected no further case, found ${JSON.stringify(value)}`);
}
