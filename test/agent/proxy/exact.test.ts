import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { signature } from "../../../src/agent/proxy/identity.ts";
import { Secret } from "../../../src/config/secret.ts";
import { ask, instanceOf, RawGuest, rawExchange, SECRET, startLab, tenureOf, until } from "./lab.ts";

describe("the proxy", () => {
  it("gives each guest its own documents, signed as nova checks", async () => {
    await using lab = await startLab();
    for (const guest of [1, 2, 3]) {
      const { status, text } = await ask(lab, guest, "/openstack/latest/meta_data.json");
      expect(status).toBe(200);
      expect(JSON.parse(text).uuid).toBe(tenureOf(guest).instanceId);
    }
    const { headers } = lab.nova.requests[0] ?? {};
    expect(headers).toMatchObject({
      host: `127.0.0.1:${lab.nova.tcpPort}`,
      "x-forwarded-for": tenureOf(1).fixedAddress,
      "x-tenant-id": tenureOf(1).projectId,
      "x-instance-id-signature": signature(new Secret(SECRET), tenureOf(1).instanceId),
    });
  });

  it.each(["fin", "length"] as const)(
    "passes binary and gzip user-data byte for byte (%s)",
    async (framing) => {
      await using lab = await startLab({}, { framing });
      const bodies = [randomBytes(65_535), gzipSync(randomBytes(3_000)), randomBytes(1), Buffer.alloc(0)];
      for (const [i, userData] of bodies.entries()) {
        lab.nova.add(instanceOf(i + 1, userData));
        const reply = await ask(lab, i + 1, "/openstack/latest/user_data", {
          headers: { "Accept-Encoding": "gzip" },
        });
        expect(reply.body.equals(userData)).toBe(true);
        expect(reply.headers["content-length"]).toBe(String(userData.length));
        expect(reply.headers["content-encoding"]).toBeUndefined();
      }
    },
  );

  it.each([
    "/openstack//latest/../latest/meta_data.json",
    "/latest/meta-data%2finstance-id",
    "/a?x=1&y=%20#frag",
    "//",
    "/%ff/%00",
    "/a?",
    "/~;=,'()!*$&+@:",
  ])("passes the path %s as it came", async (path) => {
    await using lab = await startLab();
    const raw = await rawExchange(lab, 1, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(raw.statuses).toHaveLength(1);
    expect(lab.nova.requests[0]?.path).toBe(path);
  });

  it("takes the path out of an absolute-form target and ignores the authority", async () => {
    await using lab = await startLab();
    for (const target of ["http://evil.example:81/latest/meta-data/", "http://evil.example", "HTTP://a?q"]) {
      await rawExchange(lab, 1, `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`);
    }
    expect(lab.nova.requests.map(({ path }) => path)).toEqual(["/latest/meta-data/", "/", "/?q"]);
    expect(lab.nova.requests.every(({ headers }) => headers.host === `127.0.0.1:${lab.nova.tcpPort}`)).toBe(
      true,
    );
  });

  it("puts a base path of the nova URL before each path, without doubling the slash", async () => {
    await using lab = await startLab({}, { basePath: "/metadata" });
    const { nova, proxy, settings } = lab;
    proxy.reconfigure({ ...settings, novaUrls: [`${nova.url}/`] });
    expect((await ask(lab, 1, "/latest/meta-data/hostname")).text).toBe("guest-1");
    expect(nova.requests[0]?.path).toBe("/metadata/latest/meta-data/hostname");
  });

  it.each(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])(
    "passes %s",
    async (method) => {
      await using lab = await startLab();
      expect((await ask(lab, 1, "/openstack", { method })).status).toBe(200);
      expect(lab.nova.requests[0]?.method).toBe(method);
    },
  );

  it("answers HEAD, 204 and 304 without a body and keeps the connection", async () => {
    await using lab = await startLab();
    lab.nova.fault = (_method, path) => {
      const status = Number(path.slice(1));
      return status > 0 ? { kind: "status", status } : undefined;
    };
    const one = (method: string, path: string) => `${method} ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const raw = await rawExchange(
      lab,
      1,
      one("HEAD", "/openstack") + one("GET", "/204") + one("GET", "/304") + one("GET", "/openstack"),
      4,
    );
    expect(raw.statuses).toEqual([200, 204, 304, 200]);
    expect(raw.text.match(/2018-08-27/g)).toHaveLength(1);
  });

  it.each([201, 301, 401, 404, 405, 413, 418, 429, 500, 502, 504, 599])(
    "passes status %i with its headers and body",
    async (status) => {
      await using lab = await startLab();
      const headers = [
        "X-One",
        "a",
        "x-two",
        "b",
        "Set-Cookie",
        "c=1",
        "Set-Cookie",
        "d=2",
        "Retry-After",
        "7",
      ];
      lab.nova.fault = () => ({ kind: "status", status, headers, body: Buffer.from("as it was\n") });
      const reply = await ask(lab, 1, "/openstack");
      expect(reply.status).toBe(status);
      expect(reply.text).toBe("as it was\n");
      expect(reply.rawHeaders.slice(0, headers.length)).toEqual(headers);
      expect(reply.headers["date"]).toBeUndefined();
    },
  );

  it("drops the hop-by-hop headers of nova's answer, and those that Connection names", async () => {
    await using lab = await startLab();
    const headers = [
      "Connection",
      "X-Hop",
      "X-Hop",
      "1",
      "Keep-Alive",
      "timeout=900",
      "Upgrade",
      "h2c",
      "X-End",
      "1",
    ];
    lab.nova.fault = () => ({ kind: "status", status: 200, headers });
    const reply = await ask(lab, 1, "/openstack");
    expect(reply.headers["x-end"]).toBe("1");
    expect(reply.headers["x-hop"]).toBeUndefined();
    expect(reply.headers["upgrade"]).toBeUndefined();
    expect(reply.headers["keep-alive"]).toBeUndefined();
  });

  it("skips a 1xx of nova", async () => {
    await using lab = await startLab();
    const early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    lab.nova.fault = () => ({
      kind: "garbage",
      bytes: `${early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
    });
    expect((await ask(lab, 1, "/x")).text).toBe("ok");
  });

  it("gives nova a chunked body whole, with its length", async () => {
    await using lab = await startLab();
    const head = "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    const raw = await rawExchange(lab, 1, `${head}3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n`);
    expect(raw.statuses).toEqual([200]);
    const [request] = lab.nova.requests;
    expect(request?.headers["content-length"]).toBe("5");
    expect(request?.headers["transfer-encoding"]).toBeUndefined();
    expect(lab.nova.passwords.get(tenureOf(1).instanceId)).toBe("hello");
  });

  it("gives nova no byte before the guest has sent all of its body", async () => {
    await using lab = await startLab();
    const raw = await RawGuest.connect(lab, 1);
    raw.send("POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    await ask(lab, 2, "/openstack");
    expect(lab.nova.requests).toHaveLength(1);
    raw.send("def");
    await until(() => raw.statuses.length === 1);
    expect(lab.nova.requests[1]?.body.toString()).toBe("abcdef");
    raw.close();
  });

  it("refuses a body over 64 KiB with 413 and takes one of 64 KiB", async () => {
    await using lab = await startLab();
    expect((await ask(lab, 1, "/openstack", { method: "POST", body: Buffer.alloc(65_536) })).status).toBe(
      200,
    );
    const refused = await ask(lab, 1, "/openstack", { method: "POST", body: Buffer.alloc(65_537) });
    expect(refused.status).toBe(413);
    expect(refused.text).toMatch(/^413 .+64 KiB \(request \w+\)\n$/);
    expect(lab.nova.requests).toHaveLength(1);
  });

  it("answers Expect: 100-continue itself, and 413 at once where the body would be too large", async () => {
    await using lab = await startLab();
    const head = (length: number) =>
      `POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`;
    const raw = await RawGuest.connect(lab, 1);
    raw.send(head(4));
    await until(() => raw.statuses.includes(100));
    raw.send("pass");
    await until(() => raw.statuses.includes(200));
    expect(lab.nova.requests[0]?.headers.expect).toBeUndefined();
    expect((await rawExchange(lab, 2, head(70_000))).statuses).toEqual([413]);
    raw.close();
  });

  it("speaks HTTP/1.0, with and without keep-alive", async () => {
    await using lab = await startLab();
    const closing = await RawGuest.connect(lab, 1);
    closing.send("GET /latest/meta-data/hostname HTTP/1.0\r\n\r\n");
    await until(() => closing.state !== "open");
    expect(closing.text).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*guest-1$/);
    const get = "GET /latest/meta-data/hostname HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    expect((await rawExchange(lab, 1, get + get, 2)).statuses).toEqual([200, 200]);
  });

  it("answers pipelined requests in their order", async () => {
    await using lab = await startLab();
    lab.nova.fault = (_method, path) => (path.endsWith("hostname") ? { kind: "slow", ms: 60 } : undefined);
    const get = (leaf: string) => `GET /latest/meta-data/${leaf} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const { text } = await rawExchange(lab, 1, get("hostname") + get("local-ipv4") + get("instance-id"), 3);
    expect(text.replace(/HTTP[\s\S]*?\r\n\r\n/g, "|")).toBe("|guest-1|10.0.0.1|i-bbbbbbbb");
  });

  it("asks pipelined requests one after another where their order matters", async () => {
    await using lab = await startLab();
    lab.nova.fault = (method) => (method === "POST" ? { kind: "slow", ms: 60 } : undefined);
    const path = "/openstack/latest/password";
    const post = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\npw`;
    const get = `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const { text } = await rawExchange(lab, 1, get + get + post + get + get, 5);
    expect(text.replace(/HTTP[\s\S]*?\r\n\r\n/g, "|")).toBe("||||pw|pw");
    expect(lab.nova.requests.map(({ method }) => method)).toEqual(["GET", "POST", "GET"]);
  });

  it("asks nothing more for a guest that hung up while its request waited its turn", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 100 });
    const raw = await RawGuest.connect(lab, 1);
    raw.send(`GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`);
    await until(() => lab.nova.requests.length === 1);
    raw.socket.resetAndDestroy();
    await until(() => lab.proxy.status().inFlight === 0);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(lab.nova.requests.map(({ path }) => path)).toEqual(["/a"]);
  });

  it("asks nothing for what waits behind an answer that cannot be given", async () => {
    await using lab = await startLab();
    lab.nova.fault = (method) => (method === "GET" ? { kind: "truncate", by: "rst" } : undefined);
    const { state } = await rawExchange(
      lab,
      1,
      "GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    );
    expect(state).toBe("rst");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(lab.nova.requests.map(({ method }) => method)).toEqual(["GET", "GET"]);
  });

  it("tells what waited its turn for too long why it was not asked", async () => {
    await using lab = await startLab({ holdMs: 300 });
    lab.nova.fault = () => ({ kind: "hang" });
    const post = "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    const { text, statuses } = await rawExchange(lab, 1, `GET /a HTTP/1.1\r\nHost: x\r\n\r\n${post}`, 2);
    expect(statuses).toEqual([504, 503]);
    expect(text).toMatch(/503 an earlier request of this connection is not answered yet/);
    expect(lab.nova.requests.map(({ path }) => path)).toEqual(["/a"]);
  });

  it("refuses no more than a few requests in a row that come in one piece, then ends", async () => {
    await using lab = await startLab();
    const raw = await RawGuest.connect(lab, 1);
    raw.send("GET *x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000));
    await until(() => raw.state !== "open");
    expect(raw.statuses).toEqual([...Array.from({ length: 64 }, () => 400), 503]);
  });

  it("answers what came before too many pipelined requests, then says so and ends", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 50 });
    const get = (at: number) => `GET /latest/meta-data/hostname?${at} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const raw = await RawGuest.connect(lab, 1);
    raw.send(Array.from({ length: 100 }, (_, at) => get(at)).join(""));
    await until(() => raw.state !== "open");
    expect(raw.statuses).toEqual([...Array.from({ length: 64 }, () => 200), 503]);
  });

  it.each([
    ["POST *", "100-continue", 400],
    ["POST /x", "200-ok", 417],
    ["POST /x", "100-continue\r\nHost: y", 400],
  ])(
    "ends the connection where it refuses %s before its body, which may then not come",
    async (line, expects, status) => {
      await using lab = await startLab();
      const head = `${line} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: ${expects}\r\n\r\n`;
      const raw = await RawGuest.connect(lab, 1);
      raw.send(head);
      await until(() => raw.state !== "open");
      expect(raw.statuses).toEqual([status]);
      expect(raw.text).toContain("Connection: close\r\n");
    },
  );

  it("waits for a guest that reads a large answer slowly, longer than nova may take", async () => {
    await using lab = await startLab({ holdMs: 300 });
    const body = randomBytes(12_000_000);
    lab.nova.fault = () => ({ kind: "status", status: 200, headers: ["Content-Type", "a/b"], body });
    const raw = await RawGuest.connect(lab, 1);
    raw.send("GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await until(() => raw.received.length > 0);
    for (let pause = 0; pause < 3; pause++) {
      raw.socket.pause();
      await new Promise((resolve) => setTimeout(resolve, 700));
      const before = raw.received.length;
      raw.socket.resume();
      await until(() => raw.received.length > before + 1_000_000 || raw.state !== "open");
    }
    await until(() => raw.state !== "open");
    expect(raw.received.subarray(-body.length).equals(body)).toBe(true);
  });

  it("answers a guest that has closed its sending side", async () => {
    await using lab = await startLab();
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.end("GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => raw.state !== "open");
    expect(raw.text).toMatch(/guest-1$/);
  });

  it("streams an answer that is too large to be held", async () => {
    await using lab = await startLab();
    const body = randomBytes(3_000_000);
    lab.nova.fault = () => ({ kind: "status", status: 200, headers: ["Content-Type", "a/b"], body });
    const [one, two] = await Promise.all([ask(lab, 1, "/big"), ask(lab, 1, "/big")]);
    expect(one.body.equals(body)).toBe(true);
    expect(two.body.equals(body)).toBe(true);
  });
});
