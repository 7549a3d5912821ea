/** Ids of the commands, as package.json declares them; a test compares the two. */
export const commandIds = {
  toggle: "tidepool.toggle",
  complete: "tidepool.complete",
  showContext: "tidepool.showContext",
  whyNoSuggestion: "tidepool.whyNoSuggestion",
  copyReport: "tidepool.copyReport",
  resetLearned: "tidepool.resetLearned",
  restart: "tidepool.restartEngine",
  showLog: "tidepool.showLog",
  doctor: "tidepool.doctor",
} as const;

export type CommandName = keyof typeof commandIds;
