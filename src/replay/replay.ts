// Runs every source over the same sessions.
import type { EngineApi } from "../engineClient/engineApi.ts";
import { ControllerSource } from "./controllerSource.ts";
import { newTally, type Source, type Taking, type Tally, typeSession } from "./idealUser.ts";
import { PLAIN_SOURCES } from "./plainSources.ts";
import { RelatedTexts } from "./relatedTexts.ts";
import {
  addTally,
  promptFigures,
  type ReplayReport,
  type ReplayRow,
  rowOf,
} from "./replayReport.ts";
import type { ReplaySession } from "./sessions.ts";

export interface ReplaySettings {
  debounceMs: number;
  maxTokens: number;
  keyMs: number;
}

/** Every other session of the engine's is typed whole, and all of them word by word; plain sources take no time and do both. */
const TAKINGS: readonly Taking[] = ["whole", "word"];

/** `onSession` hears the number of sessions that the engine has done, of how many. */
export async function replay(
  sessions: readonly ReplaySession[],
  engine: EngineApi,
  settings: ReplaySettings,
  onSession: (done: number, total: number) => void,
): Promise<Pick<ReplayReport, "rows" | "prompts">> {
  const source = new ControllerSource({ engine, ...settings });
  const rows: ReplayRow[] = [];
  for (const [name, make] of Object.entries(PLAIN_SOURCES)) {
    for (const taking of TAKINGS)
      rows.push(
        ...(await rowsOf(name, sessions, taking, make)).filter((row) => row.language === ALL),
      );
  }
  const related = new RelatedTexts();
  let done = 0;
  for (const taking of TAKINGS) {
    const fresh = async (session: ReplaySession) => {
      onSession(done++, sessions.length * TAKINGS.length);
      await source.open(session.filename, await related.of(session));
      return source;
    };
    rows.push(...(await rowsOf("tidepool", sessions, taking, fresh)));
  }
  return { rows, prompts: promptFigures(source.prompts) };
}

const ALL = "all";

async function rowsOf(
  name: string,
  sessions: readonly ReplaySession[],
  taking: Taking,
  sourceFor: (session: ReplaySession) => Source | Promise<Source>,
): Promise<ReplayRow[]> {
  const tallies = new Map<string, Tally>([[ALL, newTally()]]);
  for (const session of sessions) {
    const tally = newTally();
    await typeSession(session, await sourceFor(session), taking, tally);
    for (const language of [ALL, session.language]) {
      const sum = tallies.get(language) ?? newTally();
      tallies.set(language, sum);
      addTally(sum, tally);
    }
  }
  return [...tallies].map(([language, tally]) => rowOf(name, language, taking, tally));
}
