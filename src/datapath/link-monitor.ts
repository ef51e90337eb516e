import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** What the monitor heard: links that changed somehow, or that it may have missed some. */
export type LinkHint =
  | { readonly kind: "links"; readonly ifindexes: ReadonlySet<number> }
  | { readonly kind: "missed" };

/** The edge to link events: hints to look, never facts. */
export interface LinkMonitor {
  /** Begins to listen, and resolves once nothing that happens from now on is missed. */
  start(onHint: (hint: LinkHint) => void): Promise<void>;
  close(): void;
}

/** Waits before another try, in milliseconds: doubles up to the second. */
const [FIRST_WAIT_MS, LONGEST_WAIT_MS] = [50, 5_000];
/** How long `ip` may take to begin, on a host that is far too busy: what happens before it listens is not heard. */
const BEGIN_WITHIN_MS = 30_000;
/** @source `ip -rcvbuf`: room for about 20,000 events while nobody reads */
const RECEIVE_BUFFER_BYTES = 64 * 1024 * 1024;

/**
 * {@link LinkMonitor} by a child: `ip monitor link`. In this process the `netlink` package would end it at the
 * first overrun, and cannot tell a new link from a deleted one.
 *
 * @source measured: SIGABRT after 400 unread events; `ip` prints "(105)" and goes on
 */
export class IpMonitor implements LinkMonitor {
  #child: ChildProcess | undefined;
  #restart: NodeJS.Timeout | undefined;
  #waitMs = FIRST_WAIT_MS;
  #closed = false;

  async start(onHint: (hint: LinkHint) => void): Promise<void> {
    if (this.#closed) return;
    const child = spawn("ip", ["-rcvbuf", String(RECEIVE_BUFFER_BYTES), "-o", "monitor", "link"], {
      env: { ...process.env, LC_ALL: "C", PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    let rest = "";
    child.stdout.on("data", (chunk: Buffer) => {
      this.#waitMs = FIRST_WAIT_MS;
      const lines = `${rest}${chunk.toString("latin1")}`.split("\n");
      rest = lines.pop() ?? "";
      onHint({ kind: "links", ifindexes: ifindexesIn(lines) });
    });
    // "netlink receive error No buffer space available (105)", and whatever else it may complain of.
    child.stderr.on("data", () => onHint({ kind: "missed" }));
    child.on("error", () => undefined);
    child.on("close", () => {
      if (this.#closed || this.#child !== child) return;
      this.#restart = setTimeout(() => {
        void this.start(onHint).then(() => onHint({ kind: "missed" }));
      }, this.#waitMs);
      this.#waitMs = Math.min(this.#waitMs * 2, LONGEST_WAIT_MS);
    });
    await isListening(child);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#restart);
    this.#child?.kill("SIGKILL");
  }
}

/** `12: tap0@if3: <…>` or `Deleted 12: tap0…` */
function ifindexesIn(lines: readonly string[]): ReadonlySet<number> {
  const found = new Set<number>();
  for (const line of lines) {
    const [, ifindex] = /^(?:Deleted )?(\d+): /.exec(line) ?? [];
    if (ifindex !== undefined) found.add(Number(ifindex));
  }
  return found;
}

/** The child says nothing when it begins; the kernel lists its socket, by process id, once it has joined RTMGRP_LINK. */
async function isListening(child: ChildProcess): Promise<void> {
  const deadline = performance.now() + BEGIN_WITHIN_MS;
  while (child.exitCode === null && child.pid !== undefined && performance.now() < deadline) {
    const sockets = readFileSync("/proc/net/netlink", "utf8").split("\n");
    const joined = sockets.some((line) => {
      const [, protocol, port, groups] = line.trim().split(/\s+/);
      return protocol === "0" && port === String(child.pid) && (Number.parseInt(groups ?? "0", 16) & 1) === 1;
    });
    if (joined) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
