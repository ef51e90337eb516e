import { connect, createServer, type Server, type Socket } from "node:net";
import { addressOf, tenureOf } from "./lab.ts";
import { type Malice, maliceOf } from "./malformed.ts";
import { pathAndQueryOf, readStrictly, type StrictRequest } from "./strict-http.ts";

export interface Turns {
  readonly from: number;
  readonly count: number;
}

/** A nova that reads as strictly as the RFC has it, answers everything, and tells what it should not have got. */
export class StrictNova {
  /** Everything that no strict parser would have let through to here. */
  readonly faults: string[] = [];
  received = 0;
  /** What bad guests sent that is valid after all. */
  readonly #allowed = new Set<string>();
  readonly #server: Server;

  private constructor(guest: number) {
    this.#server = createServer((socket) => {
      let pending = "";
      socket.on("data", (chunk) => {
        const { requests, rest } = readStrictly(pending + chunk.toString("latin1"));
        pending = rest;
        for (const request of requests) this.#answer(socket, request, guest);
      });
      socket.on("close", () => {
        if (pending !== "") this.faults.push(`not HTTP: ${JSON.stringify(pending.slice(0, 500))}`);
      });
      socket.on("error", () => socket.destroy());
    });
  }

  /** @param guest The only one that asks anything but `/good` and `/`. */
  static async listen(guest: number, tcpPort = 0): Promise<StrictNova> {
    const nova = new StrictNova(guest);
    await new Promise<void>((resolve) =>
      nova.#server.listen({ host: "127.0.0.1", port: tcpPort, backlog: 4_096 }, resolve),
    );
    return nova;
  }

  get url(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  /** To be called before they are sent. @param turns Numbers of what {@link maliceOf} gives. */
  expect(turns: Turns): void {
    for (let turn = turns.from; turn < turns.from + turns.count; turn++) this.#allow(maliceOf(turn));
  }

  close(): void {
    this.#server.close();
  }

  #allow({ pieces }: Malice): void {
    const stream = pieces
      .join("")
      .replace(/^[\r\n]+/, "")
      .replace(FORGIVEN, "$1 $2 HTTP/");
    for (const request of readStrictly(stream).requests) this.#allowed.add(keyOf(request));
  }

  #answer(socket: Socket, request: StrictRequest, guest: number): void {
    this.received++;
    const fault = this.#faultOf(request, guest);
    if (fault !== undefined) this.faults.push(`${fault}: ${JSON.stringify(request).slice(0, 500)}`);
    const body = request.method === "HEAD" ? "" : "ok";
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${body}`);
  }

  #faultOf(request: StrictRequest, guest: number): string | undefined {
    if (request.target === "/" || request.target.startsWith("/good")) return undefined;
    if (!this.#allowed.has(keyOf(request))) return "nobody sent this";
    const { instanceId, projectId, fixedAddress } = tenureOf(guest);
    const own = { "x-instance-id": instanceId, "x-tenant-id": projectId, "x-forwarded-for": fixedAddress };
    for (const [name, value] of Object.entries(own)) {
      const values = request.headers.filter(([sent]) => sent.toLowerCase().replaceAll("_", "-") === name);
      if (values.length !== 1 || values[0]?.[1] !== value) return `another ${name} than the guest's`;
    }
    return undefined;
  }
}

/** Sends malice after malice, so many at a time. */
export async function sendMalice(
  turns: Turns,
  { tcpPort, guest, atOnce }: Record<"tcpPort" | "guest" | "atOnce", number>,
): Promise<void> {
  let next = turns.from;
  const worker = async (): Promise<void> => {
    while (next < turns.from + turns.count) await send(maliceOf(next++), tcpPort, addressOf(guest));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** Resolves when the connection is gone, or has been quiet for a while. */
function send({ pieces, ending }: Malice, port: number, localAddress: string): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port, localAddress, noDelay: true }, () => writeNext(0));
    socket.setTimeout(QUIET_MS, () => socket.destroy());
    socket.on("error", () => undefined);
    socket.on("close", () => resolve());
    socket.resume();

    function writeNext(at: number): void {
      const piece = pieces[at];
      if (piece !== undefined) socket.write(piece, "latin1", () => setImmediate(writeNext, at + 1));
      else if (ending === "fin") socket.end();
      else if (ending === "rst") socket.resetAndDestroy();
    }
  });
}

function keyOf({ method, target, body }: StrictRequest): string {
  return `${method} ${pathAndQueryOf(target)}\n${body}`;
}

/**
 * What node's parser takes and a strict one does not: CR or LF alone before the first request, more than one blank
 * around the target, and the names of two sisters of HTTP. None of it moves the end of a request or reaches nova.
 */
const FORGIVEN = /^([A-Z-]+) +([!-~]+) +(?:HTTP|RTSP|ICE)\//gm;
const QUIET_MS = 200;
