/** Reads little-endian values from a file through one small window; never allocates more than the file still holds. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { EngineError } from "../base/errors.ts";

const WINDOW_BYTES = 1 << 18;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class FileReader {
  readonly path: string;
  readonly size: number;
  private readonly fd: number;
  private window = Buffer.alloc(0);
  private windowStart = 0;
  private position = 0;

  /** Opens `path`; throws `bad_model` when it is not a readable file. */
  constructor(path: string) {
    this.path = path;
    try {
      this.fd = openSync(path, "r");
    } catch (cause) {
      throw new EngineError(
        "bad_model",
        `${path}: expected a readable model file (${codeOf(cause)})`,
        { cause },
      );
    }
    const stat = fstatSync(this.fd);
    if (!stat.isFile()) {
      closeSync(this.fd);
      throw new EngineError(
        "bad_model",
        `${path}: expected a model file, found something else (a folder or device)`,
      );
    }
    this.size = stat.size;
  }

  close(): void {
    closeSync(this.fd);
  }

  get offset(): number {
    return this.position;
  }

  get remaining(): number {
    return this.size - this.position;
  }

  /** An error that names the file and the place. */
  fail(message: string): EngineError {
    return new EngineError("bad_model", `${this.path}: ${message} (at byte ${this.position})`);
  }

  /** Throws unless `nBytes` more bytes exist, before anything is allocated for them. */
  need(nBytes: number, what: string): void {
    if (nBytes > this.remaining) {
      throw this.fail(
        `expected ${nBytes} bytes of ${what}, found ${this.remaining} before the end of the file`,
      );
    }
  }

  u8(what: string): number {
    return this.take(1, what).readUInt8();
  }

  u32(what: string): number {
    return this.take(4, what).readUInt32LE();
  }

  /** An unsigned 64-bit count or offset; beyond 2^53 it is refused, since no file is that large. */
  u64(what: string): number {
    const value = this.take(8, what).readBigUInt64LE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw this.fail(`expected ${what} below 2^53, found ${value}`);
    return Number(value);
  }

  /** A GGUF string: length, then UTF-8. */
  string(what: string): string {
    const nBytes = this.u64(`the length of ${what}`);
    this.need(nBytes, what);
    try {
      return strictUtf8.decode(this.take(nBytes, what));
    } catch (cause) {
      throw new EngineError("bad_model", this.fail(`expected UTF-8 in ${what}`).message, { cause });
    }
  }

  /** The next `nBytes` bytes. The result is only valid until the next read. */
  take(nBytes: number, what: string): Buffer {
    this.need(nBytes, what);
    let start = this.position - this.windowStart;
    if (start + nBytes > this.window.length) {
      this.fill(nBytes);
      start = 0;
    }
    this.position += nBytes;
    return this.window.subarray(start, start + nBytes);
  }

  private fill(nBytes: number): void {
    const wanted = Math.min(Math.max(nBytes, WINDOW_BYTES), this.remaining);
    const window = Buffer.allocUnsafe(wanted);
    let done = 0;
    while (done < wanted) {
      const n = readSync(this.fd, window, done, wanted - done, this.position + done);
      if (n === 0)
        throw this.fail(`expected ${wanted - done} more bytes, found the end: the file shrank`);
      done += n;
    }
    this.window = window;
    this.windowStart = this.position;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
