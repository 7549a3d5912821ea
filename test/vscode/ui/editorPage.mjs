// What a person does and sees in the workbench, as functions over a browser page.
import { mkdirSync } from "node:fs";
import path from "node:path";
import { inRoot } from "../../../scripts/lib/paths.mjs";

const shots = inRoot("test", "vscode", "shots");
const GHOST = "[class*='ghost-text']";
const VISIBLE_MS = 20_000;
const POLL_MS = 50;
/**
 * VS Code makes the part of an editor that asks for suggestions when the window is idle, at the latest 5 s after the editor
 * (EditorContributionInstantiation.Eventually). Keys typed before that are heard by no provider of any extension.
 */
const EDITOR_WHOLE_MS = 6_000;

/** Editors draw blanks as no-break spaces. */
const plain = (text) => text.replaceAll("\u00a0", " ");

export class EditorPage {
  #page;
  #firstFileAt;

  constructor(page) {
    this.#page = page;
  }

  /** Saves a picture of the window for a person to look at. */
  async shot(name) {
    mkdirSync(shots, { recursive: true });
    await this.#page.screenshot({ path: path.join(shots, `${name}.png`) });
  }

  async pause(ms) {
    await this.#page.waitForTimeout(ms);
  }

  /** Says no when VS Code asks whether the folder's authors are trusted, and waits until it says that it took that. */
  async refuseTrust() {
    await this.#page.getByRole("button", { name: /don't trust/i }).click();
    await this.#page.locator(".statusbar-item", { hasText: "Restricted Mode" }).waitFor();
  }

  /** What the active editor shows of its text at this moment. */
  async textNow() {
    const lines = this.#page.locator(".editor-instance .monaco-editor .view-line");
    return plain((await lines.allTextContents()).join("\n"));
  }

  /** Waits for the status bar item to show the sparkle that stands for a ready engine. */
  async waitUntilReady() {
    const item = this.#page.locator(".statusbar-item", { hasText: "Tidepool" });
    await item.locator(".codicon-sparkle").first().waitFor({ timeout: 60_000 });
  }

  /** What the status bar item says when the mouse rests on it. */
  async statusTooltip() {
    await this.#page.locator(".statusbar-item", { hasText: "Tidepool" }).first().hover();
    const hover = this.#page.locator(".workbench-hover", { hasText: "Tidepool" });
    await hover.first().waitFor();
    return plain((await hover.first().textContent()) ?? "");
  }

  async waitForTab(name) {
    await this.#page.locator(".tab", { hasText: name }).first().waitFor();
  }

  async openFile(name) {
    const row = this.#page.locator(".explorer-folders-view .monaco-list-row", { hasText: name });
    await row.first().dblclick();
    await this.#page.locator(".tab.active", { hasText: name }).waitFor();
    await this.#page.locator(".editor-instance .monaco-editor .view-lines").first().click();
    this.#firstFileAt ??= Date.now();
  }

  /** Runs a command of the palette by its title. */
  async command(title) {
    await this.#page.keyboard.press("F1");
    const box = this.#page.locator(".quick-input-widget input").first();
    await box.waitFor();
    await box.fill(`>${title}`);
    const row = this.#page.locator(".quick-input-list .monaco-list-row", { hasText: title });
    await row.first().waitFor();
    await this.#page.keyboard.press("Enter");
    await box.waitFor({ state: "hidden" });
  }

  /** Puts the cursor at a 1-based line and column. */
  async goTo(line, column) {
    await this.#page.keyboard.press("F1");
    const box = this.#page.locator(".quick-input-widget input").first();
    await box.waitFor();
    await box.fill(`:${line}:${column}`);
    await this.#page.keyboard.press("Enter");
    await box.waitFor({ state: "hidden" });
  }

  /** Types at the cursor, at the earliest when every part of the editor is there. */
  async type(text) {
    if (this.#firstFileAt === undefined) throw new Error("type: no file is open");
    const wait = this.#firstFileAt + EDITOR_WHOLE_MS - Date.now();
    if (wait > 0) await this.pause(wait);
    await this.#page.keyboard.type(text, { delay: 15 });
  }

  async press(key) {
    await this.#page.keyboard.press(key);
  }

  /** Waits until a suggestion is drawn and has not changed for a moment; returns its text. */
  async ghostText() {
    try {
      await this.#page.locator(GHOST).first().waitFor({ timeout: VISIBLE_MS });
    } catch (error) {
      await this.shot("no-suggestion");
      throw error;
    }
    let seen = "";
    for (;;) {
      const now = await this.ghostTextNow();
      if (now !== "" && now === seen) return now;
      seen = now;
      await this.pause(250);
    }
  }

  /** Waits until a suggestion is drawn that is not `text`; returns it. */
  async ghostTextOtherThan(text) {
    const deadline = Date.now() + VISIBLE_MS;
    for (;;) {
      const now = await this.ghostText();
      if (now !== text) return now;
      if (Date.now() > deadline) throw new Error(`no other suggestion than "${text}" was drawn`);
    }
  }

  /** The suggestion drawn at this moment, "" for none. The rest of the first line, then the lines below it. */
  async ghostTextNow() {
    const parts = await this.#page.evaluate(() => {
      const editor = ".editor-instance .monaco-editor";
      const inline = [...document.querySelectorAll(`${editor} .view-line .ghost-text-decoration`)];
      const below = [
        ...document.querySelectorAll(
          `${editor} .suggest-preview-text .view-line, ${editor} .ghost-text .view-line`,
        ),
      ];
      const byTop = (a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top;
      return {
        first: inline.map((span) => span.textContent ?? "").join(""),
        rest: [...new Set(below)].sort(byTop).map((line) => line.textContent ?? ""),
      };
    });
    return [parts.first, ...parts.rest].map(plain).join("\n");
  }

  /** Class names and texts of everything that looks like a suggestion, for the message of a failure. */
  async ghostElements() {
    return this.#page.evaluate((selector) => {
      const found = [...document.querySelectorAll(selector)];
      return found.map((element) => `${element.className}: ${element.textContent}`);
    }, GHOST);
  }

  /** Accepts the suggestion as a user does. Behind it there may soon be another one. */
  async acceptWithTab() {
    const taken = await this.ghostTextNow();
    await this.#page.keyboard.press("Tab");
    const deadline = Date.now() + VISIBLE_MS;
    while ((await this.ghostTextNow()) === taken) {
      if (Date.now() > deadline) throw new Error(`"${taken}" is still drawn behind Tab`);
      await this.pause(POLL_MS);
    }
  }

  async save() {
    await this.#page.keyboard.press("Control+s");
    await this.#page.locator(".tab.active:not(.dirty)").waitFor();
  }
}
