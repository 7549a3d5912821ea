import { expect, test } from "vitest";
import { RecentPlaces } from "./recentPlaces.ts";

test("keeps the latest places first, each once", () => {
  const recent = new RecentPlaces();
  recent.note({ path: "a.ts", line: 10, isEdited: true });
  recent.note({ path: "b.ts", line: 5, isEdited: false });
  recent.note({ path: "a.ts", line: 40, isEdited: false });
  recent.note({ path: "a.ts", line: 12, isEdited: false });
  expect(recent.places).toEqual([
    { path: "a.ts", line: 12, isEdited: true },
    { path: "a.ts", line: 40, isEdited: false },
    { path: "b.ts", line: 5, isEdited: false },
  ]);
});

test("forgets the oldest", () => {
  const recent = new RecentPlaces();
  for (let line = 0; line < 2000; line += 100) recent.note({ path: "a.ts", line, isEdited: false });
  expect(recent.places).toHaveLength(12);
  expect(recent.places[0]?.line).toBe(1900);
});
