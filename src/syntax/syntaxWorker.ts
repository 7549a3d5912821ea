// The thread that parses around cursors, so that the editor's thread does not.
import { parentPort } from "node:worker_threads";
import { assertNever } from "../base/assertNever.ts";
import { errorText } from "../base/errorText.ts";
import { LocalSyntax } from "./localSyntax.ts";
import type { FromSyntax, ToSyntax } from "./syntaxMessages.ts";

/** Longer parses come too late for a keystroke. Milliseconds. */
const LONGEST_PARSE_MS = 100;

const syntax = new LocalSyntax(LONGEST_PARSE_MS);

async function answerTo(message: ToSyntax): Promise<FromSyntax> {
  const { kind, id } = message;
  switch (kind) {
    case "scope":
      return { kind, id, scope: await syntax.scopeIn(message.window) };
    case "literals": {
      const { filename, head, text } = message;
      return { kind, id, literals: await syntax.literalsBehind(filename, head, text) };
    }
    default:
      return assertNever(message);
  }
}

const port = parentPort;
port?.on("message", (message: ToSyntax) => {
  void answerTo(message)
    .catch(
      (error: unknown): FromSyntax => ({
        kind: "failed",
        id: message.id,
        message: errorText(error),
      }),
    )
    .then((answer) => port.postMessage(answer));
});
