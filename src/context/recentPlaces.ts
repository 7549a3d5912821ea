// Where the user was and what was edited, the latest first.

export interface RecentPlace {
  /** Path in the workspace, with forward slashes. */
  path: string;
  /** From 0. */
  line: number;
  isEdited: boolean;
}

const MOST_PLACES = 12;
/** Places this near are one place. Lines. */
const SAME_PLACE_LINES = 12;

export class RecentPlaces {
  #places: RecentPlace[] = [];

  /** The latest first. */
  get places(): readonly RecentPlace[] {
    return this.#places;
  }

  /** A place that was edited stays so when it is only visited later. */
  note({ path, line, isEdited }: RecentPlace): void {
    const isHere = (other: RecentPlace) =>
      other.path === path && Math.abs(other.line - line) <= SAME_PLACE_LINES;
    const wasEdited = this.#places.some((other) => isHere(other) && other.isEdited);
    const others = this.#places.filter((other) => !isHere(other));
    const place = { path, line, isEdited: isEdited || wasEdited };
    this.#places = [place, ...others].slice(0, MOST_PLACES);
  }
}
