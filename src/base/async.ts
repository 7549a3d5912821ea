/** A promise with its two ends outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

export function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

/** Waits `ms` milliseconds; true when the time passed, false as soon as `signal` fires. */
export function delay(ms: number, signal?: AbortSignal): Promise<boolean> {
  if (signal?.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const onAbort = () => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve(true);
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Resolves when `signal` fires; `dispose` takes the listener away again. */
export function whenAborted(signal: AbortSignal): { fired: Promise<void>; dispose(): void } {
  const fired = deferred<void>();
  const onAbort = () => fired.resolve();
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return { fired: fired.promise, dispose: () => signal.removeEventListener("abort", onAbort) };
}

/** What `work` resolves to, or undefined when that takes more than `ms` milliseconds. */
export async function withinTime<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  const limit = new AbortController();
  try {
    return await Promise.race([work, delay(ms, limit.signal).then(() => undefined)]);
  } finally {
    limit.abort();
  }
}
