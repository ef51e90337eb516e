import type { Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import zookeeperClient from "node-zookeeper-client";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { SessionState, Store } from "../../src/nsdb/store.ts";
import { watchZnode } from "../../src/nsdb/watch.ts";
import { TcpRelay } from "../support/tcp-relay.ts";
import { freeTcpPorts, startZookeeper } from "../support/zookeeper.ts";

/** Each fault of node-zookeeper-client 1.1.3 that was reproduced with the bare package, and how it is for us. */

let zookeeper: Awaited<ReturnType<typeof startZookeeper>>;
let relay: TcpRelay;
let direct: Store;
const opened: Store[] = [];
const SHORT = { sessionTimeoutMs: 1_500 };

beforeAll(async () => {
  zookeeper = await startZookeeper({ tickMs: 200 });
  direct = await openStore(parseNsdbUrl(`zk://${zookeeper.address}/faults`));
});
afterAll(async () => {
  await direct.close();
  await zookeeper.cleanUp();
});
beforeEach(async () => {
  relay = await TcpRelay.start(zookeeper.tcpPort);
});
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
  await relay.close();
});

async function open(hosts: string, options = {}): Promise<Store> {
  const store = await openStore(parseNsdbUrl(`zk://${hosts}/faults`), options);
  opened.push(store);
  return store;
}

async function put(path: string, content: string | Buffer): Promise<void> {
  const znode = await direct.get(path);
  const data = Buffer.from(content);
  if (znode === undefined) await direct.write([{ kind: "create", path, data }]);
  else await direct.write([{ kind: "set", path, data, version: znode.version }]);
}

function states(store: Store): SessionState[] {
  const seen: SessionState[] = [];
  store.onSession((state) => seen.push(state));
  return seen;
}

describe("a ZooKeeper connection", () => {
  it("cut in the middle of a reply is made anew, and the read is repeated", async () => {
    await put("/big", Buffer.alloc(900_000, 1));
    const store = await open(relay.address);
    const seen = states(store);
    let passed = 0;
    relay.onReply = (chunk, toClient) => {
      passed += chunk.length;
      if (passed < 300_000) return void toClient.write(chunk);
      relay.onReply = (later, client) => client.write(later);
      toClient.write(chunk.subarray(0, 1_000), () => relay.cutAll());
    };
    expect((await store.get("/big"))?.data).toHaveLength(900_000);
    expect(seen).toEqual(["suspended", "renewed", "connected"]);
  });

  it("to a server that falls silent is left within the session's time", async () => {
    await put("/a", "1");
    const store = await open(relay.address, SHORT);
    const seen = states(store);
    relay.onReply = () => undefined;
    const details: (string | undefined)[] = [];
    store.onSession((_, detail) => details.push(detail));
    const before = performance.now();
    const read = store.get("/a");
    await vi.waitFor(() => expect(seen).toContain("suspended"), { timeout: 6_000 });
    expect(performance.now() - before).toBeLessThan(4_000);
    relay.onReply = (chunk, toClient) => toClient.write(chunk);
    expect((await read)?.data.toString()).toBe("1");
    expect(details).toEqual([
      `${relay.address}: the server was silent for 1000 ms`,
      relay.address,
      relay.address,
    ]);
  });

  it("to a server that falls silent is not sought there again before the others", async () => {
    const relays = [relay, await TcpRelay.start(zookeeper.tcpPort)];
    const known = new Set<Socket>();
    let isSilent = false;
    let asked: string[] = [];
    for (const each of relays) {
      each.onAccept = () => asked.push(each.address);
      // Only those that were there before fall silent: on a slow machine both servers are asked in the end.
      each.onReply = (chunk, toClient) => {
        if (isSilent && known.has(toClient)) return;
        if (!isSilent) known.add(toClient);
        toClient.write(chunk);
      };
    }
    for (let i = 0; i < 4; i += 1) {
      isSilent = false;
      const store = await open(relays.map(({ address }) => address).join(), SHORT);
      const lost: string[] = [];
      const next: (string | undefined)[] = [];
      store.onSession((state, detail = "") => {
        if (state === "suspended") {
          lost.push(detail.slice(0, detail.indexOf(": ")));
          asked = [];
        }
        if (state === "renewed") next.push(asked[0]);
      });
      isSilent = true;
      await vi.waitFor(() => expect(next.length).toBeGreaterThan(0), { timeout: 20_000 });
      for (const [n, server] of next.entries()) {
        expect(relays.map(({ address }) => address)).toContain(server);
        expect(server).not.toBe(lost[n]);
      }
      await store.close();
    }
    await relays[1]?.close();
  }, 90_000);

  it("that is idle is kept by pings", async () => {
    const store = await open(relay.address, SHORT);
    const seen = states(store);
    let replies = 0;
    relay.onReply = (chunk, toClient) => {
      replies += 1;
      toClient.write(chunk);
    };
    await vi.waitFor(() => expect(replies).toBeGreaterThan(5), { timeout: 5_000 });
    expect(seen).toEqual([]);
    expect(relay.accepted).toBe(1);
  });

  it("is not waited for where a server accepts and never answers", async () => {
    relay.onConnect = "silence";
    for (let i = 0; i < 3; i += 1) {
      const before = performance.now();
      const store = await open(`${relay.address},${zookeeper.address}`);
      expect(performance.now() - before).toBeLessThan(3_000);
      expect(store.session).toBe("connected");
    }
  });

  it("is waited for where every server is slow, however many there are", async () => {
    await put("/a", "1");
    const relays = [relay, await TcpRelay.start(zookeeper.tcpPort)];
    for (const each of relays)
      each.onReply = (chunk, toClient) => void setTimeout(() => toClient.write(chunk), 1_600);
    const before = performance.now();
    const store = await open(relays.map(({ address }) => address).join(), { connectTimeoutMs: 3_000 });
    expect(performance.now() - before).toBeLessThan(2_800);
    expect((await store.get("/a"))?.data.toString()).toBe("1");
    await vi.waitFor(() => expect(relays.map((each) => each.open).sort()).toEqual([0, 2]));
    await relays[1]?.close();
  });

  it.each([
    ["is garbage", Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["is of a wild length", Buffer.from([0x7f, 0xff, 0xff, 0xff, 1, 2, 3])],
    ["is of a negative length", Buffer.from([0xff, 0xff, 0xff, 0xff])],
    ["answers what was not asked", frame(4_711, 0, 0)],
    [
      "is an event of an unknown type",
      Buffer.concat([lengthOf(16 + 13), head(-1, 0), int(99), int(3), int(1), Buffer.from("/")]),
    ],
    ["is cut short inside", Buffer.concat([lengthOf(20), head(0, 0), int(1_000)])],
  ])("whose reply %s is dropped alone, and the read is repeated", async (_, reply) => {
    await put("/a", "1");
    const store = await open(relay.address, { sessionTimeoutMs: 4_000 });
    const seen = states(store);
    relay.onReply = (__, toClient) => {
      relay.onReply = (later, client) => client.write(later);
      toClient.write(reply);
    };
    expect((await store.get("/a"))?.data.toString()).toBe("1");
    expect(seen).toEqual(["suspended", "renewed", "connected"]);
  });

  it.each([-118, -121, -124, -125, -127, -6, 17])(
    "gives error code %i as an error, and lives on",
    async (code) => {
      await put("/a", "1");
      const store = await open(relay.address);
      const seen = states(store);
      relay.onReply = (chunk, toClient) => {
        relay.onReply = (later, client) => client.write(later);
        toClient.write(frame(chunk.readInt32BE(4), 0, code));
      };
      await expect(store.get("/a")).rejects.toMatchObject({ code: "protocol", path: "/a" });
      expect((await store.get("/a"))?.data.toString()).toBe("1");
      expect(seen).toEqual([]);
    },
  );

  it("restores 20,000 watches after a cut", async () => {
    const paths = Array.from({ length: 20_000 }, (_, i) => `/many/${"p".repeat(50)}${i}`);
    await put("/many", "");
    for (let i = 0; i < paths.length; i += 2_000) {
      await direct.write(
        paths.slice(i, i + 2_000).map((path) => ({ kind: "create", path, data: Buffer.from("1") })),
      );
    }
    const store = await open(relay.address, { operationTimeoutMs: 30_000 });
    const values = new Map<string, string | undefined>();
    const watches = paths.map((path) =>
      watchZnode(store, path, (znode) => values.set(path, znode?.data.toString())),
    );
    await vi.waitFor(() => expect(values.size).toBe(paths.length), { timeout: 20_000 });
    relay.cutAll();
    await direct.write(
      paths.slice(0, 100).map((path) => ({ kind: "set", path, data: Buffer.from("2"), version: 0 })),
    );
    await vi.waitFor(() => expect(paths.filter((path) => values.get(path) === "2")).toHaveLength(100), {
      timeout: 20_000,
    });
    await vi.waitFor(async () => expect(await zookeeper.watches()).toBe(paths.length), { timeout: 20_000 });
    for (const watch of watches) watch.close();
  }, 60_000);

  it("keeps its memory and sockets flat over 1,000 lost sessions and refused ones", async () => {
    await put("/w", "0");
    const store = await open(relay.address);
    let value: string | undefined;
    const watch = watchZnode(store, "/w", (znode) => {
      value = znode?.data.toString();
    });
    // The pauses between attempts are made short; a spy would keep every call.
    const real = globalThis.setTimeout;
    globalThis.setTimeout = ((run: () => void, ms = 0) =>
      real(run, ms > 1_000 ? ms : ms / 100)) as typeof setTimeout;
    const lose = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i += 1) {
        relay.onConnect = i % 2 === 0 ? "relay" : "cut";
        const before = relay.accepted;
        relay.cutAll();
        await until(() => relay.accepted > before);
        relay.onConnect = "relay";
        await until(() => store.session === "connected");
        await store.get("/w", () => undefined);
      }
    };
    await lose(100);
    const settled = heapUsed();
    await lose(1_000);
    const grown = heapUsed() - settled;

    expect(grown).toBeLessThan(1024 * 1024);
    globalThis.setTimeout = real;
    expect(relay.open).toBe(2);
    await put("/w", "after");
    await vi.waitFor(() => expect(value).toBe("after"), { timeout: 2_000 });
    watch.close();
  }, 180_000);

  it("with a new session reads everything again: nothing that changed meanwhile is missed", async () => {
    await put("/changed", "1");
    const store = await open(relay.address);
    const seen: (string | undefined)[] = [];
    const watches = ["/changed", "/appeared"].map((path) =>
      watchZnode(store, path, (znode) => seen.push(znode?.data.toString())),
    );
    await vi.waitFor(() => expect(seen).toEqual(["1", undefined]));
    relay.onConnect = "cut";
    relay.cutAll();
    await vi.waitFor(() => expect(store.session).toBe("suspended"));
    await put("/changed", "2");
    await put("/appeared", "3");
    relay.onConnect = "relay";
    await vi.waitFor(() => expect(seen.slice(2).sort()).toEqual(["2", "3"]), { timeout: 2_000 });
    for (const watch of watches) watch.close();
  });

  it("sends credentials before anything else, after each cut too", async () => {
    const acl = [new zookeeperClient.ACL(zookeeperClient.Permission.ALL, new zookeeperClient.Id("auth", ""))];
    const admin = zookeeperClient.createClient(zookeeper.address);
    admin.addAuthInfo("digest", Buffer.from("mn:s3cret"));
    admin.connect();
    await new Promise<void>((resolve, reject) => {
      admin.once("connected", () =>
        admin.create("/private", Buffer.from("1"), acl, (error) => (error ? reject(error) : resolve())),
      );
    });
    admin.close();
    const stranger = await openStore(parseNsdbUrl(`zk://${zookeeper.address}/`));
    const store = await openStore(parseNsdbUrl(`zk://mn:s3cret@${relay.address}/`));
    opened.push(stranger, store);
    expect(store.url).not.toContain("s3cret");
    await expect(stranger.get("/private")).rejects.toMatchObject({
      code: "denied",
      message: expect.stringMatching(/ACL/),
    });
    for (let i = 0; i < 5; i += 1) {
      const reads = await Promise.all(Array.from({ length: 20 }, () => store.get("/private")));
      expect(new Set(reads.map((znode) => znode?.data.toString()))).toEqual(new Set(["1"]));
      relay.cutAll();
    }
    await expect(
      stranger.write([{ kind: "create", path: "/private/x", data: Buffer.alloc(0) }]),
    ).rejects.toMatchObject({
      code: "denied",
    });
  });

  it("starts its request numbers again before they overflow", async () => {
    await put("/a", "1");
    const made = vi.spyOn(zookeeperClient, "createClient");
    const store = await open(zookeeper.address);
    const client = made.mock.results[0]?.value as { connectionManager: { xid: number } };
    made.mockRestore();
    client.connectionManager.xid = 0x7fff_fffe;
    const reads = await Promise.all(Array.from({ length: 50 }, () => store.get("/a")));
    expect(reads.every((znode) => znode?.data.toString() === "1")).toBe(true);
    expect(client.connectionManager.xid).toBeLessThan(1_000);
  });

  it("does not take version 0 for any version", async () => {
    await put("/zero", "a");
    const old = await direct.get("/zero");
    expect(old?.version).toBe(0);
    await put("/zero", "b");
    for (const kind of ["check", "delete"] as const) {
      await expect(direct.write([{ kind, path: "/zero", version: 0 }])).rejects.toMatchObject({
        code: "bad-version",
      });
    }
  });

  it("survives a listener that throws", async () => {
    await put("/a", "1");
    const store = await open(relay.address);
    const caught: unknown[] = [];
    const before = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (error) => caught.push(error));
    const others: number[] = [];
    try {
      await store.get("/a", () => {
        throw new Error("of the listener");
      });
      await store.get("/a", () => others.push(1));
      await put("/a", "2");
      await vi.waitFor(() => expect(others).toEqual([1]));
      await vi.waitFor(() => expect(caught).toHaveLength(1));
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const listener of before) process.on("uncaughtException", listener);
    }
    expect((await store.get("/a"))?.data.toString()).toBe("2");
    expect(relay.accepted).toBe(1);
  });
});

describe("a ZooKeeper that knows less than we have seen", () => {
  it("is not believed at first, and then is", async () => {
    const server = await startZookeeper({ tickMs: 200 });
    try {
      const store = await open(server.address);
      await store.write([{ kind: "create", path: "/a", data: Buffer.from("1") }]);
      const seen: (string | undefined)[] = [];
      const watch = watchZnode(store, "/a", (znode) => seen.push(znode?.data.toString()));
      await vi.waitFor(() => expect(seen).toEqual(["1"]));
      await server.kill();
      await server.wipe();
      await server.start();
      const backAt = performance.now();
      await vi.waitFor(() => expect(seen).toEqual(["1", undefined]), { timeout: 20_000 });
      expect(performance.now() - backAt).toBeGreaterThan(5_000);
      watch.close();
      await store.close();
    } finally {
      await server.cleanUp();
    }
  });
});

describe("opening a ZooKeeper", () => {
  it("works with an IPv6 address", async () => {
    const onIpv6 = await startZookeeper({ host: "::1" });
    try {
      const store = await open(onIpv6.address);
      await store.write([{ kind: "create", path: "/six", data: Buffer.from("6") }]);
      expect((await store.get("/six"))?.data.toString()).toBe("6");
      await store.close();
    } finally {
      await onIpv6.cleanUp();
    }
  });

  it("fails within its time with servers, reasons and remedy", async () => {
    relay.onConnect = "silence";
    const [closed] = await freeTcpPorts(1);
    const before = performance.now();
    const attempt = openStore(parseNsdbUrl(`zk://${relay.address},127.0.0.1:${closed}/x`), {
      connectTimeoutMs: 2_500,
    });
    await expect(attempt).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(
        /^Cannot reach ZooKeeper at ".*" within 2.5 s: (?=.*ECONNREFUSED)(?=.*no answer yet).*--nsdb$/,
      ),
    });
    expect(performance.now() - before).toBeLessThan(4_500);
    await vi.waitFor(() => expect(relay.open).toBe(0));
  });

  it("fails operations within their time when all servers are away, and says who said what", async () => {
    const store = await open(relay.address, { operationTimeoutMs: 700 });
    relay.onConnect = "cut";
    relay.cutAll();
    await vi.waitFor(() => expect(store.session).toBe("suspended"));
    const failed = expect.objectContaining({
      code: "unreachable",
      message: expect.stringContaining(relay.address),
    });
    await expect(store.get("/a")).rejects.toEqual(failed);
    await expect(store.write([{ kind: "create", path: "/q", data: Buffer.alloc(0) }])).rejects.toEqual(
      failed,
    );
  });

  it("does not repeat a write whose answer was lost, and says so", async () => {
    const store = await open(relay.address);
    relay.onReply = () => relay.cutAll();
    const attempt = store.write([{ kind: "create", path: "/once", data: Buffer.from("1") }]);
    await expect(attempt).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(/^Cannot tell whether "\/once" was written/),
    });
    expect(await direct.get("/once")).toBeDefined();
  });

  it("reads what a server with MidoNet's jute.maxbuffer holds", async () => {
    const large = Buffer.alloc(3_900_000, 5);
    await put("/large", large);
    const store = await open(zookeeper.address);
    expect((await store.get("/large"))?.data.equals(large)).toBe(true);
  });
});

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
function lengthOf(length: number): Buffer {
  return int(length);
}
/** A reply's head: the request's number, an empty zxid, the error code. */
function head(xid: number, code: number): Buffer {
  return Buffer.concat([int(xid), Buffer.alloc(8), int(code)]);
}
function frame(xid: number, _zxid: number, code: number): Buffer {
  return Buffer.concat([lengthOf(16), head(xid, code)]);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

function heapUsed(): number {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  gc();
  return process.memoryUsage().heapUsed;
}
