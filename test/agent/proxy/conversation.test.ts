import { HTTPParser } from "node:_http_common";
import { randomBytes } from "node:crypto";
import { METHODS } from "node:http";
import { describe, expect, it } from "vitest";
import { RequestParsers } from "../../../src/agent/proxy/http/request-parser.ts";
import { ask, RawGuest, rawExchange, startLab, tenureOf, until } from "./lab.ts";

const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
const hostname = get("/latest/meta-data/hostname");

describe("a conversation", () => {
  it("gives nova every method that there is", async () => {
    await using lab = await startLab();
    const methods = METHODS.filter((method) => method !== "CONNECT");
    for (const method of methods)
      await rawExchange(lab, 1, `${method} /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`);
    expect(lab.nova.requests.map(({ method }) => method)).toEqual(methods);
  });

  it("reads a request that comes byte for byte, and one of more headers than come at a time", async () => {
    await using lab = await startLab();
    const names = Array.from({ length: 100 }, (_, i) => `X-Many-${i}`);
    const raw = await RawGuest.connect(lab, 1);
    for (const byte of get("/latest/meta-data/hostname", "X-One: two\r\n")) {
      raw.send(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => raw.statuses.length === 1);
    raw.send(get(`/many?${"q".repeat(9_000)}`, names.map((name) => `${name}: ${name}\r\n`).join("")));
    await until(() => raw.statuses.length === 2);
    const [one, many] = lab.nova.requests;
    expect(one?.path).toBe("/latest/meta-data/hostname");
    expect(one?.headers["x-one"]).toBe("two");
    expect(many?.path).toBe(`/many?${"q".repeat(9_000)}`);
    for (const name of names) expect(many?.headers[name.toLowerCase()]).toBe(name);
    raw.close();
  });

  it("reads on behind a request to upgrade, which nothing comes of", async () => {
    await using lab = await startLab();
    const upgrade = get(
      "/latest/meta-data/local-ipv4",
      "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    );
    const { text } = await rawExchange(lab, 1, upgrade + hostname + upgrade + hostname, 4);
    expect(text.replace(/HTTP[\s\S]*?\r\n\r\n/g, "|")).toBe("|10.0.0.1|guest-1|10.0.0.1|guest-1");
    for (const { headers } of lab.nova.requests) expect(headers).not.toHaveProperty("upgrade");
  });

  it("loses nothing behind a request to upgrade whose body comes after its head", async () => {
    await using lab = await startLab();
    const post = `POST /openstack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\n`;
    for (const pieces of [
      [post, `hello${hostname}`],
      [post, "hel", `lo${hostname}`],
      [post, `hello${hostname.slice(0, 30)}`, hostname.slice(30)],
    ]) {
      const raw = await RawGuest.connect(lab, 1);
      for (const piece of pieces) {
        raw.send(piece);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await until(() => raw.statuses.length === 2);
      expect(raw.text).toMatch(/guest-1$/);
      raw.close();
    }
    expect(lab.nova.requests.map(({ body }) => body.toString())).toEqual([
      "hello",
      "",
      "hello",
      "",
      "hello",
      "",
    ]);
  });

  it("refuses an expectation that it does not know, but not in HTTP/1.0, which knows none", async () => {
    await using lab = await startLab();
    const path = "/latest/meta-data/hostname";
    expect((await rawExchange(lab, 1, get(path, "Expect: cake\r\n"))).statuses).toEqual([417]);
    expect(lab.nova.requests).toHaveLength(0);
    expect((await rawExchange(lab, 1, `GET ${path} HTTP/1.0\r\nExpect: cake\r\n\r\n`)).statuses).toEqual([
      200,
    ]);
  });

  it("keeps the order of answers that stream and answers that do not", async () => {
    await using lab = await startLab();
    const bodies = new Map(["/one", "/two"].map((path) => [path, randomBytes(700_000)]));
    lab.nova.fault = (_method, path) => {
      const body = bodies.get(path);
      return body && { kind: "status", status: 200, body };
    };
    const raw = await RawGuest.connect(lab, 1);
    raw.send(
      get("/one") + hostname + get("/two") + get("/latest/meta-data/hostname", "Connection: close\r\n"),
    );
    await until(() => raw.state !== "open");
    const bytes = Buffer.from(raw.text, "latin1");
    const at = (needle: string | Buffer) => bytes.indexOf(needle);
    const one = at(bodies.get("/one") ?? "?");
    const two = at(bodies.get("/two") ?? "?");
    expect(one).toBeGreaterThan(0);
    expect(at("guest-1")).toBeGreaterThan(one + 700_000 - 1);
    expect(two).toBeGreaterThan(at("guest-1"));
    expect(raw.statuses).toEqual([200, 200, 200, 200]);
    expect(bytes.lastIndexOf("guest-1")).toBeGreaterThan(two + 700_000 - 1);
  });

  it("ends a stream of unknown length by a last chunk in HTTP/1.1, by hanging up in HTTP/1.0", async () => {
    await using lab = await startLab({}, { framing: "fin" });
    const body = randomBytes(600_000);
    lab.nova.fault = () => ({ kind: "status", status: 200, headers: ["Content-Type", "a/b"], body });
    const reply = await ask(lab, 1, "/big");
    expect(reply.headers["transfer-encoding"]).toBe("chunked");
    expect(reply.body.equals(body)).toBe(true);
    const old = await RawGuest.connect(lab, 1);
    old.send("GET /big HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    await until(() => old.state !== "open");
    expect(old.text).toMatch(/\r\nConnection: close\r\n/);
    expect(old.text).not.toMatch(/chunked/);
    expect(Buffer.from(old.text, "latin1").subarray(-body.length).equals(body)).toBe(true);
  });

  it("ends with an orderly farewell after a request that asked for no more", async () => {
    await using lab = await startLab();
    for (const more of ["", hostname]) {
      const raw = await RawGuest.connect(lab, 1);
      raw.send(get("/latest/meta-data/hostname", "Connection: close\r\n") + more);
      await until(() => raw.state !== "open");
      expect(raw.state).toBe("fin");
      expect(raw.statuses).toEqual([200]);
      expect(raw.text).toMatch(/guest-1$/);
    }
  });

  it("answers the good requests before bytes that are none, then those, and nothing behind them", async () => {
    await using lab = await startLab();
    const raw = await RawGuest.connect(lab, 1);
    raw.send(`${hostname}${get("/latest/meta-data/local-ipv4")}no request\r\n\r\n${hostname}`);
    await until(() => raw.state !== "open");
    expect(raw.statuses).toEqual([200, 200, 400]);
    expect(lab.nova.requests).toHaveLength(2);
  });

  it("refuses what is no request with an id, and says when to come again and what may be asked", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 50 });
    const asked: [string, number, RegExp][] = [
      ["junk\r\n\r\n", 400, /\r\nContent-Length: \d+\r\n/],
      [get(`/${"a".repeat(40_000)}`), 431, /\r\nContent-Length: \d+\r\n/],
      ["CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405, /\r\nAllow: GET, HEAD, POST, PUT\r\n/],
      [hostname.repeat(65), 503, /\r\nRetry-After: 1\r\n/],
    ];
    for (const [bytes, status, header] of asked) {
      const raw = await RawGuest.connect(lab, 1);
      raw.send(bytes);
      await until(() => raw.state !== "open");
      const last = raw.text.slice(raw.text.lastIndexOf(`HTTP/1.1 ${status} `));
      expect(last).toMatch(header);
      const id = /\(request (\w{6})\)\n$/.exec(last)?.[1];
      const known = lab.proxy.lastRequests(tenureOf(1).portId).find(({ requestId }) => requestId === id);
      if (status !== 503) expect(known?.status).toBe(status);
      expect(raw.statuses.at(-1)).toBe(status);
      raw.close();
    }
  });

  it("are not begun on a Node whose parser answers otherwise", () => {
    const { execute } = HTTPParser.prototype;
    HTTPParser.prototype.execute = () => 0;
    try {
      expect(() => new RequestParsers()).toThrow(/Cannot read HTTP with Node .*run mn-metadata with Node 20/);
    } finally {
      HTTPParser.prototype.execute = execute;
    }
  });

  it("takes no more requests from a guest that does not read its answers, and all of them when it does", async () => {
    await using lab = await startLab();
    const body = randomBytes(200_000);
    lab.nova.fault = () => ({ kind: "status", status: 200, body });
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.pause();
    let sent = 0;
    for (; sent < 300; sent++) {
      raw.send(get(`/${sent}`));
      await until(() => lab.nova.requests.length > sent, 200).catch(() => undefined);
      if (lab.nova.requests.length <= sent) break;
    }
    expect(sent).toBeLessThan(200);
    raw.socket.resume();
    await until(() => raw.text.length > (sent + 1) * body.length);
    expect(lab.nova.requests).toHaveLength(sent + 1);
    raw.close();
  });
});
