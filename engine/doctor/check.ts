/** One line of the doctor: what was looked at, what was found, and what to do when that is not well. */
export interface Check {
  name: string;
  state: "ok" | "warn" | "fail";
  found: string;
  advice?: string;
}

export function ok(name: string, found: string): Check {
  return { name, state: "ok", found };
}

/** Works, but not as well as it could. */
export function warn(name: string, found: string, advice: string): Check {
  return { name, state: "warn", found, advice };
}

/** Completions do not work because of this. */
export function fail(name: string, found: string, advice: string): Check {
  return { name, state: "fail", found, advice };
}
