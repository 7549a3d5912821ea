/** Finds stop strings in streamed text and holds back what may turn out to be the start of one. */

export class StopStrings {
  private readonly stops: readonly string[];
  private held = "";

  constructor(stops: readonly string[]) {
    this.stops = stops.filter((stop) => stop.length > 0);
  }

  /** Text that may be shown now; `stopped` when a stop string began right after it. */
  push(text: string): { text: string; stopped: boolean } {
    this.held += text;
    const found = this.stops.map((stop) => this.held.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) return { text: this.held.slice(0, Math.min(...found)), stopped: true };
    const keep = this.heldLength();
    const shown = this.held.slice(0, this.held.length - keep);
    this.held = this.held.slice(this.held.length - keep);
    return { text: shown, stopped: false };
  }

  /** What was held back, when generation ends without a stop string. */
  end(): string {
    const rest = this.held;
    this.held = "";
    return rest;
  }

  /** Length of the longest end of the held text that begins a stop string. */
  private heldLength(): number {
    let longest = 0;
    for (const stop of this.stops) {
      for (let n = Math.min(stop.length - 1, this.held.length); n > longest; n--) {
        if (stop.startsWith(this.held.slice(this.held.length - n))) longest = n;
      }
    }
    return longest;
  }
}
