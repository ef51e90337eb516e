import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import { METADATA_ADDRESS, METADATA_ADDRESS_V6, METADATA_TCP_PORT } from "../../src/datapath/link-local.ts";

const BOTH = [METADATA_ADDRESS, `${METADATA_ADDRESS_V6}%mn-metadata`];

/** Listens where the proxy does and tells each guest as whom it is seen. */
export class EchoProxy {
  readonly #servers: Server[] = [];
  /** Every peer address of every request, in order. */
  readonly peers: string[] = [];

  static async listen(addresses: readonly string[] = BOTH): Promise<EchoProxy> {
    const echo = new EchoProxy();
    for (const host of addresses) await echo.#listen(host);
    return echo;
  }

  async close(): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** `GET /<n>` answers n bytes, `POST` the SHA-1 of what came, anything else the peer's address. */
  #listen(host: string): Promise<void> {
    const server = createServer((request, response) => {
      const peer = request.socket.remoteAddress ?? "";
      this.peers.push(peer);
      const hash = createHash("sha1");
      request.on("data", (chunk: Buffer) => hash.update(chunk));
      request.on("end", () => {
        const size = Number(request.url?.slice(1) ?? "");
        if (request.method === "POST") response.end(hash.digest("hex"));
        else response.end(size > 0 ? Buffer.alloc(size, "m") : peer);
      });
    });
    server.keepAliveTimeout = 100;
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(METADATA_TCP_PORT, host, resolve);
    });
  }
}
