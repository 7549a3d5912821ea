/**
 * Which of several daemons owns the socket of a runtime folder.
 * A daemon listens on a path of its own, which is then moved to the shared one: a socket there always answers, and closing
 * a server removes only its own path. Two that replace the same dead socket at once both succeed; the later one owns it,
 * and the other sees so by `isOurs`.
 */
import { linkSync, lstatSync, renameSync, rmSync } from "node:fs";
import { connect } from "node:net";

const ANSWER_MS = 2000;

export interface SocketClaim {
  /** Whether the shared path still leads to our socket. */
  isOurs(): boolean;
  /** Removes the shared path, if it is ours. */
  release(): void;
}

/** Moves the socket at `own`, which listens, to `shared`; undefined when another process answers there. A dead socket is replaced. */
export async function claimSocket(own: string, shared: string): Promise<SocketClaim | undefined> {
  const inode = inodeOf(own);
  if (!linkIfFree(own, shared)) {
    if (await accepts(shared)) return undefined;
    renameSync(own, shared);
  }
  const isOurs = () => inode !== undefined && inodeOf(shared) === inode;
  return {
    isOurs,
    release() {
      if (isOurs()) rmSync(shared, { force: true });
    },
  };
}

/** Whether a process accepts connections at `socket`. */
export function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    const end = (answer: boolean) => {
      probe.destroy();
      resolve(answer);
    };
    probe.setTimeout(ANSWER_MS, () => end(false));
    probe.once("connect", () => end(true));
    probe.once("error", () => end(false));
  });
}

/** Moves `own` to `shared` when nothing is there. File systems that cannot link sockets count as taken: renaming works everywhere. */
function linkIfFree(own: string, shared: string): boolean {
  try {
    linkSync(own, shared);
  } catch {
    return false;
  }
  rmSync(own, { force: true });
  return true;
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}
