import { expect, test } from "vitest";
import { errorLine } from "./daemonProcess.ts";

test.each([
  [
    "a plain line",
    "model.gguf: expected GGUF, found nothing\n",
    "model.gguf: expected GGUF, found nothing",
  ],
  ["the last of several lines", "warming up\ntidepool: no memory\n", "no memory"],
  [
    "the error of a stack trace",
    "file.js:1\nthrow new Error('x')\n^\n\nTypeError: expected a, found b\n    at f (file.js:1:1)\n\nNode.js v20.1.0\n",
    "expected a, found b",
  ],
  ["nothing", "", ""],
])("takes %s from stderr", (_name, stderr, line) => {
  expect(errorLine(stderr)).toBe(line);
});
