import type { ExtraChunk } from "../../engine/protocol/api.ts";
import type { Trigger } from "./completionMode.ts";
import type { CompletionSettings } from "./completionSettings.ts";
import type { DocumentSnapshot } from "./documentSnapshot.ts";
import type { CompletionTrace } from "./trace/completionTrace.ts";

export interface CompletionQuery {
  snapshot: DocumentSnapshot;
  trigger: Trigger;
  settings: CompletionSettings;
  /** Other files for the prompt; read only when a request is made. */
  context: () => Promise<readonly ExtraChunk[]>;
  /** Texts of files that are like this one, to copy from; read once for a document, and again where the cursor rests. */
  related: () => Promise<readonly string[]>;
  /** Takes down what happens to the query, for who wants to know. */
  trace?: CompletionTrace;
}
