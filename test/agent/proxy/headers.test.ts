import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { screenRequest, screenResponse } from "../../../src/agent/proxy/headers.ts";
import { KnownHeaders } from "../../../src/agent/proxy/known-headers.ts";
import { ask, rawExchange, startLab, tenureOf } from "./lab.ts";

const passed = (raw: string[]): readonly string[] => {
  const screened = screenRequest(raw, false);
  return screened.kind === "pass" ? screened.headers : [`refused ${screened.status}`];
};

describe("screenRequest()", () => {
  it("passes what is the guest's own, in order and letter case", () => {
    const raw = ["User-Agent", "curl", "accept", "*/*", "X-aB", "1", "X-aB", "2"];
    expect(passed([...raw, "Host", "h"])).toEqual(raw);
  });

  it.each([
    "X-Instance-ID",
    "x_instance_id",
    "X-Instance_ID-Signature",
    "X-TENANT-ID",
    "X_Tenant_ID",
    "X-Forwarded-For",
    "x_forwarded_for",
    "X-Metadata-Provider",
    "X_Metadata-Provider_Signature",
    "X-Metadata-Provider-Anything",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Upgrade",
    "HTTP2-Settings",
    "Expect",
    "Content-Length",
    "Content_Length",
    "Transfer_Encoding",
    "Host",
    "X-aws-ec2-metadata-token",
    "X-aws-ec2-metadata-token-ttl-seconds",
  ])("drops %s", (name) => {
    expect(passed(["A", "1", name, "2", "B", "3"])).toEqual(["A", "1", "B", "3"]);
  });

  it("drops what Connection names, however it is spelled", () => {
    expect(passed(["X-A", "1", "x_b", "2", "Connection", "close, x-a , X-B", "C", "3"])).toEqual(["C", "3"]);
  });

  it("refuses a Connection that names more than 64 headers, in however many parts", () => {
    const named = (count: number): string[] =>
      Array.from({ length: count }, (_, i) => ["Connection", `close, x-${i}`]).flat();
    expect(passed([...named(63), "X-1", "1", "C", "3"])).toEqual(["C", "3"]);
    expect(passed([...named(64), "X-1", "1"])).toEqual(["refused 431"]);
    const many = Array.from({ length: 9_000 }, (_, i) => i.toString(36)).join(",");
    expect(passed(["Connection", many])).toEqual(["refused 431"]);
  });

  it("refuses two Hosts, unknown codings, control characters and a flood of headers", () => {
    expect(passed(["Host", "a", "host", "a"])).toEqual(["refused 400"]);
    expect(screenRequest([], true)).toMatchObject({ kind: "refuse", status: 400 });
    const coded = (coding: string, isHttp11: boolean) =>
      screenRequest(["Host", "h", "Transfer-Encoding", coding], isHttp11);
    expect(coded("gzip, chunked", true)).toMatchObject({ kind: "refuse", status: 501 });
    expect(coded("chunked", false)).toMatchObject({ kind: "refuse", status: 400 });
    expect(coded("chunked", true)).toMatchObject({ kind: "pass", bodyLength: undefined });
    expect(passed(["A", "x\u0001y"])).toEqual(["refused 400"]);
    expect(passed(Array.from({ length: 258 }, () => "a"))).toEqual(["refused 431"]);
  });
});

describe("KnownHeaders", () => {
  it("says of each list what screening it says, whatever came before", () => {
    const header = fc.constantFrom(
      ["Host", "h"],
      ["A", "1"],
      ["A", "2"],
      ["X-Tenant-ID", "t"],
      ["B", "x".repeat(2_000)],
    );
    const request = fc.record({ raw: fc.array(header, { maxLength: 3 }), isHttp11: fc.boolean() });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 8 }), (requests) => {
        const known = new KnownHeaders();
        for (const { raw, isHttp11 } of requests)
          expect(known.screen(raw.flat(), isHttp11)).toEqual(screenRequest(raw.flat(), isHttp11));
      }),
    );
  });
});

describe("screenResponse()", () => {
  it("keeps duplicates, order and letter case", () => {
    const raw = ["Set-Cookie", "a", "set-cookie", "b", "ETag", '"x"'];
    expect(screenResponse(["Transfer-Encoding", "chunked", ...raw])).toEqual(raw);
  });
});

describe("a guest that forges", () => {
  const forged = [
    `X-Instance-ID: ${tenureOf(2).instanceId}`,
    `X_Instance_ID: ${tenureOf(2).instanceId}`,
    `X-Tenant-ID: ${tenureOf(2).projectId}`,
    "X-Instance-ID-Signature: 00",
    "X-Forwarded-For: 9.9.9.9",
    "X_Forwarded_For: 9.9.9.9",
    "X-Metadata-Provider: p1",
    "X_Metadata_Provider: p1",
    "X-Metadata-Provider-Signature: 00",
    "Connection: X-Instance-ID, X-Tenant-ID, X-Instance-ID-Signature, X-Forwarded-For",
    "Connection: Host, Content-Length",
  ];

  it.each(forged)("gets its own data with %s", async (header) => {
    await using lab = await startLab();
    const raw = await rawExchange(
      lab,
      1,
      `GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: x\r\n${header}\r\n\r\n`,
    );
    expect(raw.statuses).toEqual([200]);
    expect(raw.text).toContain(tenureOf(1).instanceId);
    const [request] = lab.nova.requests;
    expect(request?.rawHeaders.slice(-8)).toEqual([
      "X-Forwarded-For",
      tenureOf(1).fixedAddress,
      "X-Instance-ID",
      tenureOf(1).instanceId,
      "X-Tenant-ID",
      tenureOf(1).projectId,
      "X-Instance-ID-Signature",
      expect.stringMatching(/^[0-9a-f]{64}$/),
    ]);
    const names = request?.rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase()) ?? [];
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((name) => name.includes("_") || name.includes("provider"))).toEqual([]);
  });
});

describe("malformed requests", () => {
  const get = "GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\n";
  const cases: Record<string, string> = {
    "length and chunked": `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    "chunked and length": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
    "two lengths": `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello`,
    "a list of lengths": `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello`,
    "a negative length": `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n`,
    "a signed length": `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello`,
    "a coding after chunked": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n`,
    "an unknown coding": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    "two codings": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    "a blank before the colon": `${get}X-A : 1\r\n\r\n`,
    "a folded header": `${get}X-A: 1\r\n 2\r\n\r\n`,
    "a header without colon": `${get}X-A\r\n\r\n`,
    "an empty header name": `${get}: 1\r\n\r\n`,
    "NUL in a header": `${get}X-A: a\0b\r\n\r\n`,
    "CR in a header": `${get}X-A: a\rb\r\n\r\n`,
    "LF only": "GET /x HTTP/1.1\nHost: x\n\n",
    "NUL in the path": "GET /x\0y HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab in the path": "GET /x\ty HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes beyond ASCII in the path": "GET /caf\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2.0": "GET /x HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/9.9": "GET /x HTTP/9.9\r\nHost: x\r\n\r\n",
    "HTTP/0.9": "GET /x\r\n\r\n",
    "the h2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": "GET /x HTTP/1.1\r\n\r\n",
    "two Hosts": "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "an asterisk": "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a relative path": "GET latest HTTP/1.1\r\nHost: x\r\n\r\n",
    CONNECT: "CONNECT evil:80 HTTP/1.1\r\nHost: evil:80\r\n\r\n",
    "an unknown method": "FOO /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad chunk size": `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n`,
    "chunks in HTTP/1.0": "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a TLS hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a giant header": `${get}X-A: ${"a".repeat(40_000)}\r\n\r\n`,
    "a giant path": `GET /${"a".repeat(40_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    "a flood of headers": `${get}${"X-A: 1\r\n".repeat(200)}\r\n`,
  };

  it.each(Object.entries(cases))("with %s never reach nova", async (_name, bytes) => {
    await using lab = await startLab();
    const raw = await rawExchange(lab, 1, bytes);
    expect(raw.text).toMatch(/^HTTP\/1\.1 [45]\d\d [\s\S]*\r\n\r\n[45]\d\d .*\n$/);
    expect(lab.nova.requests).toEqual([]);
    expect((await ask(lab, 1, "/latest/meta-data/hostname")).text).toBe("guest-1");
  });

  it("hidden behind a good one get nothing of it", async () => {
    await using lab = await startLab();
    const smuggled = `GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\nX-Instance-ID: ${tenureOf(2).instanceId}\r\n\r\n`;
    const bytes = `POST /openstack HTTP/1.1\r\nHost: x\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`;
    const raw = await rawExchange(lab, 1, bytes);
    expect(raw.statuses).toEqual([200]);
    expect(lab.nova.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(["POST /openstack"]);
  });
});
