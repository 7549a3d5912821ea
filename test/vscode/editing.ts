// What suites in the extension host do with documents: make, open and type.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import * as vscode from "vscode";
import type { InfillRequest } from "../../engine/protocol/api.ts";
import type { TestApi } from "../../src/extension.ts";
import { eventually } from "./engineProbe.ts";

const ASKED_MS = 20_000;

/** Activates the extension under test, which shows these suites what it does. */
export async function testApi(): Promise<TestApi> {
  const api: unknown = await vscode.extensions.getExtension("tidepool.tidepool")?.activate();
  assert.ok(api !== undefined, "the extension runs without its interface for tests");
  return api as TestApi;
}

/** A place in the workspace folder. */
export function uriOf(path: string): vscode.Uri {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  assert.ok(folder !== undefined, "no workspace folder is open");
  return vscode.Uri.joinPath(folder, path);
}

export const writeFile = (path: string, text: string): Thenable<void> =>
  vscode.workspace.fs.writeFile(uriOf(path), Buffer.from(text));

/** Opens a document with the cursor at `offset`, its end when missing. */
export async function openAt(
  document: vscode.TextDocument,
  offset = document.getText().length,
): Promise<vscode.TextEditor> {
  const editor = await vscode.window.showTextDocument(document, vscode.ViewColumn.One);
  const position = document.positionAt(offset);
  editor.selection = new vscode.Selection(position, position);
  return editor;
}

/** Writes a file and opens it with the cursor at its end. */
export async function openFile(path: string, text: string): Promise<vscode.TextEditor> {
  await writeFile(path, text);
  return openAt(await vscode.workspace.openTextDocument(uriOf(path)));
}

/** Types as a user does, so that every listener of the editor sees it. */
export const type = (text: string): Thenable<unknown> =>
  vscode.commands.executeCommand("type", { text });

/** Resolves with the first request of a completion for which `isRight`. */
export async function requestWith(
  api: TestApi,
  what: string,
  isRight: (request: InfillRequest) => boolean,
  limitMs = ASKED_MS,
): Promise<InfillRequest> {
  const found = () => {
    const request = api.lastRequest();
    return request && isRight(request) ? request : undefined;
  };
  await eventually(what, limitMs, () => Promise.resolve(found() !== undefined)).catch(
    (error: unknown) => {
      throw new Error(
        `${String(error)}; last outcome: ${api.lastOutcome()}; last request: ${JSON.stringify(api.lastRequest())}`,
      );
    },
  );
  const request = found();
  assert.ok(request);
  return request;
}

/**
 * The request for which `isRight` after `char` was typed, which should begin no word of the document: that would be
 * answered without the engine. A new editor may lose what it asked for while it is drawn, so the key is typed again.
 */
export async function askedAfterTyping(
  api: TestApi,
  char: string,
  isRight: (request: InfillRequest) => boolean,
): Promise<InfillRequest> {
  for (let tries = 0; tries < 4; tries++) {
    await type(char);
    const found = await requestWith(api, "a request is made", isRight, ASKED_MS / 5).catch(() =>
      vscode.commands.executeCommand("deleteLeft").then(() => undefined),
    );
    if (found) return found;
  }
  await type(char);
  return requestWith(api, "a request is made", isRight, ASKED_MS / 5);
}

export interface TypingFigures {
  keys: number;
  seconds: number;
  /** Share of the time in which the thread of the extension host computed, apart from time that it waited for a core. */
  busy: number;
  /** Milliseconds from a key to its change in the document, 95 of 100 within. */
  p95Ms: number;
}

/** CPU time of this thread, which Linux counts in hundredths of a second; undefined elsewhere. */
function threadSeconds(): number | undefined {
  const file = `/proc/self/task/${process.pid}/stat`;
  if (!existsSync(file)) return undefined;
  // The name of the thread, in brackets, may hold spaces.
  const fields = readFileSync(file, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Figures for the title of a test, where they are read with its result. */
export function wordsFor({ keys, seconds, busy, p95Ms }: TypingFigures): string {
  const share = (busy * 100).toFixed(1);
  return `${keys} keys in ${seconds.toFixed(1)} s, extension host busy ${share} %, a key takes ${p95Ms.toFixed(0)} ms (p95)`;
}

/** Types the characters of `text` again and again, `perSecond` of them, for so many seconds. */
export async function typeAtRate(
  text: string,
  perSecond: number,
  forSeconds: number,
): Promise<TypingFigures & { typed: string }> {
  const started = performance.now();
  const before = performance.eventLoopUtilization();
  const cpuBefore = threadSeconds();
  const latencies: number[] = [];
  const pending: Thenable<unknown>[] = [];
  const keys = Math.round(perSecond * forSeconds);
  let typed = "";
  for (let key = 0; key < keys; key++) {
    const due = started + (key * 1000) / perSecond;
    await sleep(Math.max(0, due - performance.now()));
    const char = text.charAt(key % text.length);
    typed += char;
    const at = performance.now();
    pending.push(type(char).then(() => latencies.push(performance.now() - at)));
  }
  await Promise.all(pending);
  const { utilization } = performance.eventLoopUtilization(before);
  const seconds = (performance.now() - started) / 1000;
  const cpu = threadSeconds();
  const busy =
    cpu === undefined || cpuBefore === undefined ? utilization : (cpu - cpuBefore) / seconds;
  latencies.sort((a, b) => a - b);
  return {
    typed,
    keys,
    seconds,
    busy,
    p95Ms: latencies[Math.floor(latencies.length * 0.95)] ?? Number.NaN,
  };
}
