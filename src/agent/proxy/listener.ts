import { readFileSync } from "node:fs";
import type { Server, ServerOptions } from "node:http";
import type { Socket } from "node:net";
import type { Logger } from "../log.ts";
import { ProxyError } from "./error.ts";
import type { ListenAddress } from "./proxy.ts";

/**
 * node:http as strict as it comes. A guest has ten seconds for the head of a request and fifteen for all of it;
 * connections that ask nothing are ended by the proxy's own sweep, without a timer each.
 */
export const SERVER_OPTIONS: ServerOptions = {
  insecureHTTPParser: false,
  // Screened with the other headers, so that its absence is answered like any other fault.
  requireHostHeader: false,
  /** @source nova contract §5: uwsgi takes 64 KiB, eventlet 16 KiB a header */
  maxHeaderSize: 32 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 15_000,
  connectionsCheckingInterval: 1_000,
  keepAliveTimeout: 0,
  noDelay: true,
};

/** @throws {ProxyError} As {@link Proxy.listen}. */
export async function startListening(server: Server, address: ListenAddress, log: Logger): Promise<void> {
  const { host, tcpPort } = address;
  // A client that has sent all it will send may still listen. Not in node's types; read at each end of input.
  Object.assign(server, { httpAllowHalfOpen: true });
  server.maxHeadersCount = 0;
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

/** What a guest is told of what the parser refused. */
export function faultOf({ code }: NodeJS.ErrnoException): readonly [status: number, text: string] {
  if (code === "HPE_HEADER_OVERFLOW") return [431, "the request head is too large"];
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return [408, "the request did not arrive in time"];
  return [400, "the request is not HTTP/1.1"];
}

/** Answers what never became a request, and hangs up. */
export function answerMalformed(socket: Socket, status: number, text: string): void {
  const body = `${status} ${text}\n`;
  // node takes its own listeners off a socket that says CONNECT; without one, a guest's reset would end the process.
  socket.on("error", () => socket.destroy());
  const reason = REASONS[status] ?? "Bad Request";
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}

const REASONS: Readonly<Record<number, string>> = {
  405: "Method Not Allowed",
  408: "Request Timeout",
  431: "Request Header Fields Too Large",
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
