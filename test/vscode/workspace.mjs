// The folder that the editor tests open: a copy of the sample, with every other source of suggestions switched off.
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { copySample } from "../../scripts/lib/sample.mjs";

const settings = {
  "editor.quickSuggestions": { other: "off", comments: "off", strings: "off" },
  "editor.suggestOnTriggerCharacters": false,
  "editor.wordBasedSuggestions": "off",
  "editor.parameterHints.enabled": false,
  "editor.minimap.enabled": false,
  "editor.hover.enabled": false,
  "files.autoSave": "off",
};

/** Fills `folder`; what is seen in it can then only come from the extension under test. */
export function makeTestWorkspace(folder) {
  copySample(folder);
  mkdirSync(path.join(folder, ".vscode"));
  writeFileSync(path.join(folder, ".vscode", "settings.json"), JSON.stringify(settings, null, 2));
}
