import { describe, expect, test } from "vitest";
import { newTally, type Place, type Source, type Taking, typeSession } from "./idealUser.ts";
import { PLAIN_SOURCES, restOfLine, restOfWord } from "./plainSources.ts";
import { addTally, formatReplay, rowOf } from "./replayReport.ts";

const session = {
  language: "Python",
  filename: "a.py",
  before: "def total(items):\n",
  folder: "shop",
  typed: "    return sum(items)",
  after: "\n\nprint(total([1]))\n",
};

async function run(text: (place: Place) => string | undefined, taking: Taking = "whole") {
  const tally = newTally();
  const source: Source = {
    offer: (place) => {
      const shown = text(place);
      return shown === undefined ? undefined : { text: shown, ms: 5 };
    },
  };
  await typeSession(session, source, taking, tally);
  return tally;
}

describe("an ideal user", () => {
  test("types every character when nothing is shown", async () => {
    const tally = await run(() => undefined);
    expect(tally).toMatchObject({ characters: 21, keystrokes: 21, shown: 0, accepted: 0 });
  });

  test("takes a text that is right with one key", async () => {
    const tally = await run(({ before }) =>
      before.endsWith("retu") ? "rn sum(items)" : undefined,
    );
    expect(tally).toMatchObject({ characters: 21, keystrokes: 9, shown: 1, accepted: 1, ms: [5] });
  });

  test("takes the next word of a text that is wrong later, when taking words", async () => {
    const wrong = ({ before }: Place) => (before.endsWith("    ") ? "return nothing" : undefined);
    expect(await run(wrong)).toMatchObject({ keystrokes: 21, accepted: 0 });
    expect(await run(wrong, "word")).toMatchObject({ keystrokes: 16, shown: 1, accepted: 1 });
  });

  test("sees one text as long as what is typed agrees with it, though it is displayed again", async () => {
    const wrong = "return summary";
    const tally = await run(({ before }) => {
      const line = before.slice(session.before.length).trimStart();
      return before.length > 21 && wrong.startsWith(line) ? wrong.slice(line.length) : undefined;
    });
    expect(tally.shown).toBe(1);
    expect(tally.displays).toBeGreaterThan(5);
  });

  test("never takes more than was going to be typed", async () => {
    const all = `${session.typed}${session.after}`;
    const tally = await run(({ before }) => all.slice(before.length - session.before.length));
    expect(tally).toMatchObject({ characters: 21, keystrokes: 21, accepted: 0 });
  });
});

describe("plain sources", () => {
  const place = (before: string, after = "") => ({ filename: "a", before, after });

  test("finish the nearest word, and the nearest line", () => {
    expect(restOfWord(place("tomato\ntomorrow\ntom"))).toBe("orrow");
    expect(restOfWord(place("x = tom", "\ntomato"))).toBe("ato");
    expect(restOfWord(place("tomato\nx = "))).toBeUndefined();
    expect(restOfLine(place("  a(1);\n  a(2);\na("))).toBeUndefined();
    expect(restOfLine(place("  foo(1);\n  foo(2);\nfoo("))).toBe("2);");
  });

  test("the oracle saves all but one key a line", async () => {
    const tally = newTally();
    const source = PLAIN_SOURCES["oracle"]?.(session);
    expect(source).toBeDefined();
    if (source) await typeSession(session, source, "whole", tally);
    expect(tally).toMatchObject({ keystrokes: 1, accepted: 1 });
  });
});

test("a report has a row for every source, and nothing in it is NaN", () => {
  const tally = newTally();
  addTally(tally, {
    ...newTally(),
    characters: 10,
    keystrokes: 5,
    shown: 2,
    accepted: 1,
    displays: 4,
  });
  const row = rowOf("tidepool", "all", "whole", tally);
  expect(row).toMatchObject({ saved: 0.5, accepted: 0.5, acceptedOfDisplays: 0.25, p50Ms: 0 });
  const text = formatReplay({
    bench: "fim --replay",
    version: "1",
    model: "m",
    device: "d",
    sessions: 1,
    folders: ["/f"],
    settings: { debounceMs: 0, maxTokens: 1, keyMs: 1, seed: 1 },
    rows: [row, rowOf("none", "all", "word", newTally())],
    prompts: { requests: 1, tokensMedian: 100, cachedShare: 0.99, freshP95: 3 },
  });
  expect(text).toContain("50.0 %");
  expect(text).not.toContain("NaN");
});
