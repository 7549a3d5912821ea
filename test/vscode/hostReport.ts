/** What the suites in the extension host leave behind; written only when Mocha came to its end. */
export interface HostReport {
  complete: boolean;
  results: HostResult[];
}

export interface HostResult {
  title: string;
  state: "passed" | "failed" | "skipped";
  /** Stack of the error of a failed test. */
  message?: string;
}
