/** Fetches a hub file into the cache: resumed where it stopped, checked against its hash, in place only when it is whole. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync, statSync } from "node:fs";
import { mkdir, rename, rm, statfs, symlink, writeFile } from "node:fs/promises";
import { dirname, relative } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { EngineError } from "../base/errors.ts";
import { type HubAccess, type HubFile, hubFailure } from "./hubFile.ts";

export interface DownloadProgress {
  bytes: number;
  of: number;
}

/**
 * Path of the file in the cache, fetched when it is not there. What an earlier call has fetched is not fetched again.
 * Throws `environment` when the connection breaks, the disk is full or the content is not what the hub promised.
 */
export async function download(
  file: HubFile,
  access: HubAccess,
  onProgress: (progress: DownloadProgress) => void,
): Promise<string> {
  await mkdir(dirname(file.blob), { recursive: true });
  await mkdir(dirname(file.pointer), { recursive: true });
  await mkdir(dirname(file.ref), { recursive: true });
  if (!existsSync(file.blob)) await fetchBlob(file, access, onProgress);
  if (!existsSync(file.pointer)) {
    await rm(file.pointer, { force: true });
    await symlink(relative(dirname(file.pointer), file.blob), file.pointer);
  }
  await writeFile(file.ref, file.commit);
  return file.pointer;
}

async function fetchBlob(
  file: HubFile,
  access: HubAccess,
  onProgress: (progress: DownloadProgress) => void,
): Promise<void> {
  const partial = `${file.blob}.incomplete`;
  const have = statSync(partial, { throwIfNoEntry: false })?.size ?? 0;
  await refuseFullDisk(partial, file.bytes - have);
  try {
    if (have < file.bytes || have === 0) await fetchRest(file, access, partial, have, onProgress);
  } catch (error) {
    throw hubFailure(error, file.path);
  }
  await check(file, partial);
  await rename(partial, file.blob);
}

async function fetchRest(
  file: HubFile,
  { accessToken }: HubAccess,
  partial: string,
  have: number,
  onProgress: (progress: DownloadProgress) => void,
): Promise<void> {
  const response = await fetch(file.url, {
    headers: {
      ...(accessToken !== undefined && { Authorization: `Bearer ${accessToken}` }),
      ...(have > 0 && { Range: `bytes=${have}-` }),
    },
  });
  if (!response.ok || response.body === null) {
    throw new EngineError(
      "environment",
      `expected the content of ${file.path}, found HTTP status ${response.status}`,
    );
  }
  // A server that does not know ranges sends everything again.
  const isRest = response.status === 206;
  let bytes = isRest ? have : 0;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      onProgress({ bytes, of: file.bytes });
      done(null, chunk);
    },
  });
  await pipeline(
    Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]),
    count,
    createWriteStream(partial, { flags: isRest ? "a" : "w" }),
  );
}

/** Throws, and removes what was fetched, when it is not the file that the hub described. */
async function check(file: HubFile, partial: string): Promise<void> {
  const { size } = statSync(partial);
  if (size < file.bytes) {
    throw new EngineError(
      "environment",
      `expected ${file.bytes} bytes of ${file.path}, found ${size}: run the same command again to go on`,
    );
  }
  const hash = createHash("sha256");
  await pipeline(createReadStream(partial), hash);
  const found = hash.digest("hex");
  if (size === file.bytes && (file.sha256 === undefined || found === file.sha256)) return;
  await rm(partial, { force: true });
  throw new EngineError(
    "environment",
    `expected ${file.path} of ${file.bytes} bytes with SHA-256 ${file.sha256 ?? "any"}, found ${size} bytes with ${found}: it was removed, run the same command again`,
  );
}

async function refuseFullDisk(path: string, needed: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path));
  const free = bavail * bsize;
  if (needed <= free) return;
  throw new EngineError(
    "environment",
    `expected ${needed} free bytes in ${dirname(path)}, found ${free}`,
  );
}
