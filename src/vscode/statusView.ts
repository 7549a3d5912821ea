// What the status bar says of the engine, without the editor's types.
import { basename } from "node:path";
import { assertNever } from "../base/assertNever.ts";
import type { EngineState } from "../engineClient/engineState.ts";
import { type CommandName, commandIds } from "./commandIds.ts";

export interface StatusView {
  text: string;
  tooltip: string;
  command: (typeof commandIds)[CommandName];
  /** Commands that the tooltip offers besides. */
  links: readonly { command: (typeof commandIds)[CommandName]; title: string }[];
  isError: boolean;
}

const WHY = { command: commandIds.whyNoSuggestion, title: "Why no suggestion?" };

/** `isOn` is the user's switch; an engine that runs for other windows does not change what "off" looks like here. */
export function statusView(state: EngineState, isOn: boolean, lastOutcome: string): StatusView {
  const view = (
    text: string,
    tooltip: string,
    command: CommandName = "toggle",
    isError = false,
  ): StatusView => ({
    text,
    tooltip,
    command: commandIds[command],
    links: [],
    isError,
  });
  if (!isOn) return view("$(circle-slash) Tidepool", "Tidepool is off. Click to switch it on.");
  switch (state.kind) {
    case "stopped":
      return view(
        "$(debug-pause) Tidepool",
        "The engine is stopped. Click to start it.",
        "restart",
      );
    case "starting":
      return view(
        "$(loading~spin) Tidepool",
        `Starting: ${state.phase}. Click for the log.`,
        "showLog",
      );
    case "ready":
    case "working": {
      const { model } = state;
      const icon = state.kind === "working" ? "$(sync~spin)" : "$(sparkle)";
      const last = lastOutcome === "" ? "" : `\nLast request: ${lastOutcome}`;
      const { readAhead } = state;
      const percent =
        readAhead === undefined ? "" : ` ${Math.floor((100 * readAhead.done) / readAhead.total)} %`;
      const reading = percent === "" ? "" : `\nReading other files ahead:${percent}`;
      const what = `Model ${model.id} (${basename(model.path)}) on ${model.device}`;
      const said = `${what}${last}${reading}\nClick to switch Tidepool off.`;
      return { ...view(`${icon} Tidepool${percent}`, said), links: last === "" ? [] : [WHY] };
    }
    case "failed":
      return view(
        "$(error) Tidepool",
        `${state.reason}\nClick to restart the engine.`,
        "restart",
        true,
      );
    default:
      return assertNever(state);
  }
}
