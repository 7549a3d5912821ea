// Composition root: builds the parts, wires them and registers them.
import * as vscode from "vscode";
import type { InfillRequest } from "../engine/protocol/api.ts";
import { DisposableStore } from "./base/lifecycle.ts";
import { CompletionController } from "./completion/completionController.ts";
import { EngineClient } from "./engineClient/engineClient.ts";
import type { EngineState } from "./engineClient/engineState.ts";
import { SyntaxClient } from "./syntax/syntaxClient.ts";
import { type CommandHandlers, registerCommands } from "./vscode/commands.ts";
import { Confidence } from "./vscode/confidence.ts";
import { isOn, onChange, toggle } from "./vscode/config.ts";
import { runDoctor } from "./vscode/doctor.ts";
import { connectWithSettings, engineScript, modelArguments } from "./vscode/engineLaunch.ts";
import {
  InlineCompletionProvider,
  type OutcomeCounters,
} from "./vscode/inlineCompletionProvider.ts";
import { tellEngineFailed, tellInfo } from "./vscode/notifications.ts";
import { ReadAhead } from "./vscode/readAhead.ts";
import { ReadOnlyDocuments } from "./vscode/readOnlyDocuments.ts";
import { RequestProbe } from "./vscode/requestProbe.ts";
import { CONTEXT_SCHEME, showContext } from "./vscode/showContext.ts";
import { StatusBar } from "./vscode/statusBar.ts";
import { aboutOf, copyReport, showWhy, TRACE_SCHEME } from "./vscode/whyNoSuggestion.ts";
import { WorkspaceContext } from "./vscode/workspaceContext.ts";

/** What the tests in a real editor look at. */
export interface TestApi {
  state(): EngineState;
  counters(): OutcomeCounters;
  lastOutcome(): string;
  /** The last request to the engine that a completion waited for. */
  lastRequest(): InfillRequest | undefined;
}

export function activate(context: vscode.ExtensionContext): TestApi | undefined {
  const store = new DisposableStore();
  context.subscriptions.push(store);
  const log = store.add(vscode.window.createOutputChannel("Tidepool", { log: true }));
  const client = store.add(
    new EngineClient((options) => connectWithSettings(context, options), log),
  );
  const probe = inTest(context) ? new RequestProbe(client) : undefined;
  const parsing = vscode.Uri.joinPath(context.extensionUri, "dist", "syntaxWorker.js").fsPath;
  const syntax = store.add(new SyntaxClient(parsing, (news) => log.warn(news)));
  const controller = store.add(new CompletionController(probe ?? client, { syntax }));
  const files = store.add(new WorkspaceContext(context, log, () => controller.forgetContext()));
  const contexts = store.add(new ReadOnlyDocuments(CONTEXT_SCHEME));
  const traces = store.add(new ReadOnlyDocuments(TRACE_SCHEME));
  const confidence = store.add(new Confidence(context.globalState));
  const provider = new InlineCompletionProvider({ controller, files, confidence, log });
  store.add(new ReadAhead(controller, files, log));
  const status = store.add(new StatusBar());
  const showStatus = () => status.update(client.state, isOn(), provider.lastOutcome);
  const follow = () => {
    controller.reset();
    if (isOn()) client.start();
    else {
      client.stop();
      files.stop();
    }
    showStatus();
  };

  store.add(
    client.onState((state) => {
      showStatus();
      if (state.kind === "failed") void tellEngineFailed(state.reason);
    }),
  );
  store.add(
    onChange((changed) => (changed === "engine" && isOn() ? void client.restart() : follow())),
  );
  store.add(vscode.languages.registerInlineCompletionItemProvider({ pattern: "**" }, provider));
  store.add(provider.onOutcome(() => status.soon(showStatus)));
  store.add(
    registerCommands(
      handlersOf({ context, client, log, files, contexts, provider, confidence, traces }),
    ),
  );
  follow();
  return probe && testApiOf(client, provider, probe);
}

interface CommandParts {
  context: vscode.ExtensionContext;
  client: EngineClient;
  log: vscode.LogOutputChannel;
  files: WorkspaceContext;
  contexts: ReadOnlyDocuments;
  provider: InlineCompletionProvider;
  confidence: Confidence;
  traces: ReadOnlyDocuments;
}

function handlersOf(parts: CommandParts): CommandHandlers {
  const { context, client, log, provider, confidence } = parts;
  const sources = { traces: provider.traces, confidence };
  return {
    toggle: async () => void (await toggle()),
    complete: async () =>
      void (await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger")),
    showContext: () => showContext(parts.files, parts.contexts),
    whyNoSuggestion: () => showWhy(sources, parts.traces, aboutOf(context, client.state)),
    copyReport: () => copyReport(sources, aboutOf(context, client.state)),
    resetLearned: async () => {
      await confidence.reset();
      tellInfo("what was learned from your use is forgotten.");
    },
    restart: () => (isOn() ? client.restart() : tellInfo("it is off; switch it on first.")),
    showLog: () => log.show(),
    doctor: async () => {
      log.show();
      const healthy = await runDoctor(engineScript(context), modelArguments(), log);
      tellInfo(healthy ? "nothing is wrong." : "something is wrong: see the log.");
    },
  };
}

function testApiOf(
  client: EngineClient,
  provider: InlineCompletionProvider,
  probe: RequestProbe,
): TestApi {
  return {
    state: () => client.state,
    counters: () => provider.counters,
    lastOutcome: () => provider.lastOutcome,
    lastRequest: () => probe.last,
  };
}

function inTest(context: vscode.ExtensionContext): boolean {
  return (
    context.extensionMode !== vscode.ExtensionMode.Production ||
    process.env["TIDEPOOL_TEST_API"] === "1"
  );
}
