/** What the Hugging Face hub says of a model file, and where it lies in the cache that all hub programs share. */
import { basename, join } from "node:path";
import {
  fileDownloadInfo,
  getHFHubCachePath,
  getRepoFolderName,
  HubApiError,
  listFiles,
  pathsInfo,
} from "@huggingface/hub";
import { EngineError, messageOf } from "../base/errors.ts";

export interface HubRequest {
  /** "owner/name". */
  repo: string;
  /** Path in the repository; when missing, its only model file. */
  file?: string | undefined;
  /** Branch, tag or commit; default main. */
  revision?: string | undefined;
}

/** How the hub is reached; tests bring a server of their own. */
export interface HubAccess {
  hubUrl?: string;
  accessToken?: string;
  cacheDir?: string;
}

export interface HubFile {
  path: string;
  /** Where its bytes are fetched. */
  url: string;
  bytes: number;
  /** SHA-256 of the content, when the hub knows it. */
  sha256: string | undefined;
  /** Content, and the name under which programs find it. */
  blob: string;
  pointer: string;
  /** Names the commit that a branch or tag stands for. */
  ref: string;
  commit: string;
}

/** HF_ENDPOINT, HF_TOKEN and the cache folder's variables, as all hub programs read them. */
export function hubAccess(env: NodeJS.ProcessEnv = process.env): HubAccess {
  const endpoint = env["HF_ENDPOINT"];
  const token = env["HF_TOKEN"];
  return { ...(endpoint && { hubUrl: endpoint }), ...(token && { accessToken: token }) };
}

/** Asks the hub for the file. Throws `bad_request` for a wrong repository or file, `environment` when the hub is not reached. */
export async function findHubFile(request: HubRequest, access: HubAccess): Promise<HubFile> {
  if (!/^[\w.-]+\/[\w.-]+$/.test(request.repo)) {
    throw new EngineError("bad_request", `expected a repository OWNER/NAME, found ${request.repo}`);
  }
  try {
    return await askHub(request, access);
  } catch (error) {
    throw hubFailure(error, request.repo);
  }
}

async function askHub(request: HubRequest, access: HubAccess): Promise<HubFile> {
  const { repo, revision = "main" } = request;
  const { cacheDir = getHFHubCachePath(), ...reach } = access;
  const file = request.file ?? (await onlyModelFile(repo, revision, reach));
  const [info] = await pathsInfo({ repo, revision, paths: [file], expand: true, ...reach });
  const commit = info?.lastCommit.id;
  const download = await fileDownloadInfo({
    repo,
    revision: commit ?? revision,
    path: file,
    ...reach,
  });
  if (info === undefined || download === null)
    throw new EngineError("bad_request", `expected ${file} in ${repo}, found no such file`);
  const sha256 = info.lfs?.oid;
  const name = sha256 ?? info.oid;
  // These become parts of paths in the user's home.
  if (!isHash(commit) || !isHash(name) || !isRelative(file))
    throw new EngineError("bad_request", `expected a commit and a hash of ${file}, found others`);
  const folder = join(cacheDir, getRepoFolderName({ name: repo, type: "model" }));
  return {
    path: file,
    url: download.url,
    bytes: info.size,
    sha256,
    blob: join(folder, "blobs", name),
    pointer: join(folder, "snapshots", commit, file),
    ref: join(folder, "refs", encodeURIComponent(revision)),
    commit,
  };
}

const isHash = (text: string | undefined): text is string => /^[0-9a-f]{40,64}$/.test(text ?? "");
const isRelative = (file: string) =>
  !file.startsWith("/") && !file.split(/[/\\]/).some((part) => part === "" || part === "..");

async function onlyModelFile(repo: string, revision: string, reach: HubAccess): Promise<string> {
  const files: string[] = [];
  for await (const entry of listFiles({ repo, revision, recursive: true, ...reach })) {
    if (entry.type === "file" && entry.path.endsWith(".gguf")) files.push(entry.path);
  }
  const [file] = files;
  if (file !== undefined && files.length === 1) return file;
  const found = files.length === 0 ? "none" : files.map((path) => basename(path)).join(", ");
  throw new EngineError(
    "bad_request",
    `expected one GGUF file in ${repo}, or --file, found ${found}`,
  );
}

/** Says in one line why the hub did not answer as expected. */
export function hubFailure(error: unknown, what: string): EngineError {
  if (EngineError.is(error)) return error;
  if (error instanceof HubApiError) {
    const { statusCode } = error;
    if (statusCode === 401 || statusCode === 403) {
      const why = `expected access to ${what}, found status ${statusCode}: it does not exist, or needs a token in HF_TOKEN`;
      return new EngineError("bad_request", why, { cause: error });
    }
    if (statusCode === 404)
      return new EngineError("bad_request", `expected ${what} on the hub, found nothing`, {
        cause: error,
      });
  }
  const cause = error instanceof Error ? error.cause : undefined;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : messageOf(error);
  return new EngineError(
    "environment",
    `cannot get ${what} from the hub (${code}): run the same command again to go on, or add a file with tidepool models add`,
    { cause: error },
  );
}
