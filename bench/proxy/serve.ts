// Our proxy as the bench measures it: 500 ports in its table, one of which is the client's.
//   node --import tsx bench/proxy/serve.ts NOVA_URL TCP_PORT
import { boundHeap } from "../../src/agent/heap-bounds.ts";
import type { Tenure, TenureLookup } from "../../src/agent/ports/tenure.ts";
import { createProxy } from "../../src/agent/proxy/http-proxy.ts";
import { Secret } from "../../src/config/secret.ts";
import { addressOf, tenureOf } from "../../test/agent/proxy/lab.ts";

const PORTS = 500;
const [, , novaUrl = "", tcpPort = ""] = process.argv;

boundHeap();
const rows = new Map<string, Tenure>();
for (let number = 1; number <= PORTS; number++) {
  rows.set(addressOf(number), tenureOf(number));
}
const tenures: TenureLookup = {
  inSync: true,
  tenureOf: (peerAddress) => rows.get(peerAddress),
  onChange: () => () => undefined,
};
const say = (level: string) => (fields: object, message: string) =>
  process.stderr.write(`${level} ${message} ${JSON.stringify(fields)}\n`);
const proxy = createProxy({
  tenures,
  settings: {
    novaUrls: [novaUrl],
    sharedSecret: new Secret("bench-secret"),
    previousSharedSecret: undefined,
    holdMs: 8_000,
    slowDocumentMs: 30_000,
    cacheTtlMs: Number(process.env["CACHE_TTL_MS"] ?? 0),
    imdsv2: "optional",
    requestsPerSecond: Number(process.env["RATE"] ?? 100),
    requestBurst: 200,
    tls: { caFile: undefined, certFile: undefined, keyFile: undefined, serverName: undefined },
  },
  log: { error: say("error"), warn: say("warn"), info: say("info"), debug: () => undefined },
});
await proxy.listen({ host: "127.0.0.1", tcpPort: Number(tcpPort) });
process.stdout.write("listening\n");
process.on("message", () => {
  globalThis.gc?.();
  process.send?.({ heapMiB: process.memoryUsage().heapUsed / 2 ** 20, status: proxy.status() });
});
process.on("SIGTERM", () => {
  process.stderr.write(`${JSON.stringify(proxy.status())}\n`);
  void proxy.close(0).then(() => process.exit(0));
});
