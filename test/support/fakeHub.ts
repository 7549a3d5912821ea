/** A model hub on this machine that holds one file, with the calls that a download makes. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export class FakeHub {
  readonly sha256: string;
  /** Ranges that were asked for, except those that only ask for the size. */
  readonly ranges: (string | undefined)[] = [];
  /** Breaks the connection after so many bytes of an answer. */
  breakAfter = Number.POSITIVE_INFINITY;
  /** Sends other content than it promised. */
  lies = false;
  private readonly content: Buffer;
  private readonly paths: readonly string[];
  private readonly server: Server;

  constructor(content: Buffer, paths: readonly string[] = ["small.gguf"]) {
    this.content = content;
    this.paths = paths;
    this.sha256 = createHash("sha256").update(content).digest("hex");
    this.server = createServer((request, response) => this.answer(request, response));
  }

  /** The address to reach it at. */
  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private entry(path: string) {
    const size = this.content.length;
    const lfs = { oid: this.sha256, size, pointerSize: 130 };
    const lastCommit = { id: COMMIT, title: "", date: "2026-01-01T00:00:00.000Z" };
    return { type: "file", path, size, oid: "f".repeat(40), lfs, lastCommit };
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? "";
    if (url.includes("/gated/")) response.writeHead(403).end();
    else if (url.startsWith("/api/models/owner/small/tree/"))
      sendJson(
        response,
        this.paths.map((path) => this.entry(path)),
      );
    else if (url.startsWith("/api/models/owner/small/paths-info/"))
      void this.answerPaths(request, response);
    else if (url.startsWith("/owner/small/resolve/")) this.send(request, response);
    else response.writeHead(404).end();
  }

  private async answerPaths(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const asked = (JSON.parse(Buffer.concat(chunks).toString()) as { paths: string[] }).paths;
    const known = this.paths.filter((path) => asked.includes(path));
    sendJson(
      response,
      known.map((path) => this.entry(path)),
    );
  }

  private send(request: IncomingMessage, response: ServerResponse): void {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = Number(range?.[1] ?? 0);
    const end = range?.[2] ? Number(range[2]) + 1 : this.content.length;
    if (request.headers.range !== "bytes=0-0") this.ranges.push(request.headers.range);
    const { length } = this.content;
    response.writeHead(range === null ? 200 : 206, {
      etag: `"${this.sha256}"`,
      "content-length": end - start,
      ...(range !== null && { "content-range": `bytes ${start}-${end - 1}/${length}` }),
    });
    const part = Buffer.from(this.content.subarray(start, end));
    if (this.lies) part.fill(0);
    if (part.length <= this.breakAfter) response.end(part);
    else
      response.write(part.subarray(0, this.breakAfter), () =>
        setTimeout(() => response.destroy(), 50),
      );
  }
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}
