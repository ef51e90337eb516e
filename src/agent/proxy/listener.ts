import { readFileSync } from "node:fs";
import type { Server, ServerOpts } from "node:net";
import type { Logger } from "../log.ts";
import { ProxyError } from "./error.ts";
import type { Fault } from "./http/conversation.ts";
import type { ListenAddress } from "./proxy.ts";

/** A client that has sent all it will send may still listen. */
export const SERVER_OPTIONS: ServerOpts = {
  noDelay: true,
  allowHalfOpen: true,
};

/** @throws {ProxyError} As {@link Proxy.listen}. */
export async function startListening(server: Server, address: ListenAddress, log: Logger): Promise<void> {
  const { host, tcpPort } = address;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, host, tcpPort)));
    server.listen({ host, port: tcpPort, backlog: BACKLOG }, () => {
      server.removeAllListeners("error");
      server.on("error", (error) =>
        log.error({ reason: error.message }, "accepting guests' connections failed"),
      );
      resolve();
    });
  });
  warnOfShortBacklog(log);
}

/** `169.254.169.254:9697`, as the kernel has it. */
export function addressOf(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === "string") return String(address);
  return address.family === "IPv6"
    ? `[${address.address}]:${address.port}`
    : `${address.address}:${address.port}`;
}

/** What a guest is told of what is no request. */
export const FAULTS: Readonly<Record<Fault, { readonly status: number; readonly text: string }>> = {
  "not-http": { status: 400, text: "the request is not HTTP/1.1" },
  "head-too-large": { status: 431, text: "the request head is too large" },
  "too-late": { status: 408, text: "the request did not arrive in time" },
  "too-many": { status: 503, text: "too many requests at once on this connection" },
  connect: { status: 405, text: "CONNECT is not served here" },
};

/** A thousand guests that boot at once must not be refused; the kernel takes the least of this and somaxconn. */
const BACKLOG = 4_096;

function warnOfShortBacklog(log: Logger): void {
  const somaxconn = Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8"));
  if (somaxconn >= BACKLOG) return;
  log.warn(
    { somaxconn },
    `the kernel holds at most ${somaxconn} new connections at a time, where ${BACKLOG} are wanted: sysctl -w net.core.somaxconn=${BACKLOG} and restart`,
  );
}

function listenError(error: NodeJS.ErrnoException, host: string, tcpPort: number): ProxyError {
  const what = `Cannot listen on "${host}" port ${tcpPort}`;
  switch (error.code) {
    case "EADDRINUSE":
      return new ProxyError(
        "address-in-use",
        `${what}: another process holds it, perhaps midolman's own metadata proxy, a Neutron metadata agent or another mn-metadata (ss -ltnp 'sport = :${tcpPort}' names it); stop that, and for midolman set agent.openstack.metadata.enabled to false for it or start mn-metadata first`,
        error,
      );
    case "EADDRNOTAVAIL":
      return new ProxyError(
        "address-not-available",
        `${what}: no interface of this host has the address; the interface "mn-metadata" should have it, and a link-local IPv6 address needs its interface as in fe80::a9fe:a9fe%mn-metadata`,
        error,
      );
    default:
      return new ProxyError(
        "listen-failed",
        `${what}: ${error.message}; it should be an address of this host and a free TCP port`,
        error,
      );
  }
}
