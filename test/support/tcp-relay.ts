import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A relay to a server that a test can make misbehave. */
export class TcpRelay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** What becomes of the server's bytes on their way to the client. */
  onReply: (chunk: Buffer, toClient: Socket) => void = (chunk, toClient) => toClient.write(chunk);
  /** What becomes of a new client. */
  onConnect: "relay" | "silence" | "cut" = "relay";
  /** How many clients have connected so far. */
  accepted = 0;
  onAccept: () => void = () => undefined;

  private constructor(targetTcpPort: number, targetHost: string) {
    this.#server = createServer((client) => {
      this.accepted += 1;
      this.onAccept();
      this.#keep(client);
      if (this.onConnect === "cut") client.destroy();
      if (this.onConnect !== "relay") return void client.resume();
      const server = connect({ host: targetHost, port: targetTcpPort });
      this.#keep(server);
      client.on("data", (chunk) => server.write(chunk));
      server.on("data", (chunk) => this.onReply(chunk, client));
      client.on("close", () => server.destroy());
      server.on("close", () => client.destroy());
    });
  }

  static async start(targetTcpPort: number, targetHost = "127.0.0.1"): Promise<TcpRelay> {
    const relay = new TcpRelay(targetTcpPort, targetHost);
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    return relay;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`; // It listens on TCP.
  }

  /** The number of sockets that are open, both ways. */
  get open(): number {
    return this.#sockets.size;
  }

  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.#server.close();
    this.cutAll();
    await once(this.#server, "close");
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => this.#sockets.delete(socket));
  }
}
