import { connect, createServer } from "node:net";

/** Answers every chunk with itself, on the metadata address and on the bridge's. */
export function serveEcho(
  addresses: readonly (readonly [host: string, tcpPort: number])[],
): Promise<() => void> {
  const servers = addresses.map(([host, tcpPort]) =>
    createServer((socket) => {
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.pipe(socket);
    }).listen(tcpPort, host),
  );
  const listening = servers.map((server) => new Promise((resolve) => server.once("listening", resolve)));
  return Promise.all(listening).then(() => () => {
    for (const server of servers) server.close();
  });
}

/** Round trips of 128 bytes over one connection, in microseconds, sorted. */
export function pingPong(host: string, tcpPort: number, rounds: number): Promise<readonly number[]> {
  return new Promise((resolve, reject) => {
    const message = Buffer.alloc(128, "m");
    const times: number[] = [];
    let began = 0;
    const socket = connect({ host, port: tcpPort, noDelay: true }, () => {
      began = performance.now();
      socket.write(message);
    });
    socket.on("error", reject);
    socket.on("data", () => {
      times.push((performance.now() - began) * 1_000);
      if (times.length === rounds) {
        socket.destroy();
        resolve(times.sort((a, b) => a - b));
        return;
      }
      began = performance.now();
      socket.write(message);
    });
  });
}

// As a guest: node echo.ts <host> <port> <rounds> [<host> <port> <rounds> …], in turns.
if (process.argv[1]?.endsWith("echo.ts") === true) {
  const words = process.argv.slice(2);
  const results: Record<string, number[]> = {};
  for (let turn = 0; turn < 5; turn++) {
    for (let at = 0; at < words.length; at += 3) {
      const [host = "", tcpPort = "", rounds = ""] = words.slice(at, at + 3);
      const times = (await pingPong(host, Number(tcpPort), Number(rounds))).slice();
      results[host] = [...(results[host] ?? []), ...times];
    }
  }
  process.stdout.write(JSON.stringify(results));
}
