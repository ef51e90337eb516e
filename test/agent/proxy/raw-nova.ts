import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createSecureContext, TLSSocket } from "node:tls";

/** A nova whose every byte is the test's own. Its health check is answered. */
export class RawNova implements AsyncDisposable {
  /** The requests that came, without those for `/`. */
  readonly requests: string[] = [];
  readonly url: string;
  readonly #sockets: Set<Socket>;
  readonly #close: () => void;

  private constructor(url: string, sockets: Set<Socket>, close: () => void) {
    this.url = url;
    this.#sockets = sockets;
    this.#close = close;
  }

  /** @param answer Called with each request, as it came; `tcp` is what lies under TLS, or the same socket. */
  static async start(
    answer: (socket: Socket, request: string, count: number, tcp: Socket) => void,
    tls?: { readonly key: Buffer; readonly cert: Buffer },
  ): Promise<RawNova> {
    const sockets = new Set<Socket>();
    let nova: RawNova | undefined;
    const secureContext = tls === undefined ? undefined : createSecureContext(tls);
    const serve = (tcp: Socket): void => {
      sockets.add(tcp);
      let read = "";
      tcp.on("error", () => undefined).on("close", () => sockets.delete(tcp));
      const socket =
        secureContext === undefined ? tcp : new TLSSocket(tcp, { isServer: true, secureContext });
      socket.on("error", () => undefined);
      socket.setEncoding("latin1").on("data", (text: string) => {
        read += text;
        if (!read.includes("\r\n\r\n")) return;
        const request = read;
        read = "";
        if (request.startsWith("GET / ")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        else answer(socket, request, nova?.requests.push(request) ?? 0, tcp);
      });
    };
    const server = createServer(serve);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const scheme = tls === undefined ? "http" : "https";
    nova = new RawNova(`${scheme}://127.0.0.1:${port}`, sockets, () => server.close());
    return nova;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** A key and a certificate of `nova.example`, as files and as bytes. */
export function certificates(folder: string): { key: Buffer; cert: Buffer } {
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const name = ["-subj", "/CN=nova.example", "-addext", "subjectAltName=DNS:nova.example"];
  execFileSync("openssl", ["req", ...kind, ...name, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}
