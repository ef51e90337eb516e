import { mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Lab, rawExchange, startLab } from "./lab.ts";
import { certificates, RawNova } from "./raw-nova.ts";

const folder = mkdtempSync(join(tmpdir(), "mn-cut-"));
const tls = certificates(folder);

afterAll(() => rmSync(folder, { recursive: true }));

const WHOLE = "a".repeat(5_000);

async function labOf(nova: RawNova): Promise<Lab> {
  const lab = await startLab();
  const trusting = { ...lab.settings.tls, caFile: join(folder, "cert.pem"), serverName: "nova.example" };
  lab.proxy.reconfigure({ ...lab.settings, novaUrls: [nova.url], tls: trusting });
  return lab;
}

const get = (at: number) => `GET /latest/user-data?${at} HTTP/1.1\r\nHost: x\r\n\r\n`;
const post = (at: number) => `POST /password?${at} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx`;

describe.each([
  ["the lean line", get, undefined, 2],
  ["undici, a request that must not be repeated", post, undefined, 1],
  ["undici, https", get, tls, 2],
])("an answer over %s that ends with its connection", (_, request, certificate, asks) => {
  it.each([
    ["at once", 0],
    ["a little later", 30],
  ])("is never taken for the whole where that was reset %s", async (_when, afterMs) => {
    const reset = (socket: Socket, _request: string, _count: number, tcp: Socket): void => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n${WHOLE}`);
      if (afterMs === 0) tcp.resetAndDestroy();
      else setTimeout(() => tcp.resetAndDestroy(), afterMs);
    };
    await using nova = await RawNova.start(reset, certificate);
    await using lab = await labOf(nova);
    for (let at = 0; at < 20; at++) {
      const { state, text } = await rawExchange(lab, 1, request(at));
      expect([state, text]).toEqual(["rst", ""]);
    }
    expect(nova.requests).toHaveLength(20 * asks);
  });

  it("comes whole, once, where it ended in order", async () => {
    const end = (socket: Socket): void => {
      socket.end(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n${WHOLE}`);
    };
    await using nova = await RawNova.start(end, certificate);
    await using lab = await labOf(nova);
    for (let at = 0; at < 20; at++) {
      const { text } = await rawExchange(lab, 1, request(at));
      expect(text).toContain("Content-Length: 5000\r\n");
      expect(text.endsWith(WHOLE)).toBe(true);
    }
    expect(nova.requests).toHaveLength(20);
  });

  it("may be without a body and tell its length all the same", async () => {
    const heads = ["304 Not Modified\r\nETag: x\r\nContent-Length: 77", "204 No Content"];
    const answer = (socket: Socket, _request: string, count: number): void => {
      socket.write(`HTTP/1.1 ${heads[count % 2]}\r\n\r\n`);
    };
    await using nova = await RawNova.start(answer, certificate);
    await using lab = await labOf(nova);
    for (let at = 0; at < 6; at++) {
      const { statuses, state } = await rawExchange(lab, 1, request(at));
      expect([statuses, state]).toEqual([[at % 2 === 0 ? 204 : 304], "open"]);
    }
    expect(nova.requests).toHaveLength(6);
  });

  it("may have a reason beyond ASCII", async () => {
    const answer = (socket: Socket): void => {
      socket.write(Buffer.from("HTTP/1.1 200 Caf\xe9\r\nContent-Length: 2\r\n\r\nok", "latin1"));
    };
    await using nova = await RawNova.start(answer, certificate);
    await using lab = await labOf(nova);
    const { text } = await rawExchange(lab, 1, request(0));
    expect(text).toMatch(/^HTTP\/1\.1 200 (Caf\xe9)?\r\n/);
    expect(text.endsWith("\r\n\r\nok")).toBe(true);
  });
});
