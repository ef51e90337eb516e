import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChunkReader } from "../../../src/agent/proxy/upstream/chunks.ts";
import { parseResponseHead } from "../../../src/agent/proxy/upstream/response-head.ts";
import { ask, startLab } from "./lab.ts";

describe("parseResponseHead()", () => {
  const head = (lines: string[], method = "GET") => parseResponseHead(lines.join("\r\n"), method);

  it("keeps names and values as they came", () => {
    expect(head(["HTTP/1.1 299 Odd \xe9", "X-aB:  1\t2 ", "x-ab:", 'ETag: "\xff"'])).toMatchObject({
      status: 299,
      statusText: "Odd \xe9",
      headers: ["X-aB", "1\t2", "x-ab", "", "ETag", '"\xff"'],
    });
  });

  it.each([
    [["HTTP/1.1 200 OK", "Content-Length: 7"], "GET", { kind: "length", length: 7 }, true],
    [
      ["HTTP/1.1 200 OK", "content-length: 7", "Connection: Close"],
      "GET",
      { kind: "length", length: 7 },
      false,
    ],
    [["HTTP/1.1 200 OK", "Transfer-Encoding: Chunked"], "GET", { kind: "chunked" }, true],
    [["HTTP/1.1 200 OK"], "GET", { kind: "until-close" }, false],
    [["HTTP/1.0 200 OK", "Content-Length: 7"], "GET", { kind: "length", length: 7 }, false],
    [["HTTP/1.1 200 OK", "Content-Length: 7"], "HEAD", { kind: "none" }, true],
    [["HTTP/1.1 204 No Content"], "GET", { kind: "none" }, true],
    [["HTTP/1.1 304", "Content-Length: 9"], "GET", { kind: "none" }, true],
  ])("finds the end of %j to %s", (lines, method, framing, isKeptAlive) => {
    expect(head(lines, method)).toMatchObject({ framing, isKeptAlive });
  });

  it.each([
    ["HTTP/1.1 20 OK"],
    ["HTTP/1.1  200 OK"],
    ["HTTP/2 200 OK"],
    ["http/1.1 200 OK"],
    ["HTTP/1.1 099 X"],
    ["HTTP/1.1 200 OK", "Content-Length: 1", "content-length: 1"],
    ["HTTP/1.1 200 OK", "Content-Length: +1"],
    ["HTTP/1.1 200 OK", "Content-Length: 1, 1"],
    ["HTTP/1.1 200 OK", "Content-Length: "],
    ["HTTP/1.1 200 OK", "Content-Length: 9999999999999999"],
    ["HTTP/1.1 200 OK", "Content-Length: 1", "Transfer-Encoding: chunked"],
    ["HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"],
    ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["HTTP/1.1 200 OK", "X : 1"],
    ["HTTP/1.1 200 OK", " X: 1"],
    ["HTTP/1.1 200 OK", "X"],
    ["HTTP/1.1 200 OK", ": 1"],
    ["HTTP/1.1 200 OK", "X: a\nY: b"],
    ["HTTP/1.1 200 OK", "X: a\rb"],
    ["HTTP/1.1 200 OK", "X: a\0b"],
    [""],
  ])("refuses %j", (...lines) => {
    expect(head(lines)).toBeUndefined();
  });
});

describe("ChunkReader", () => {
  const readAll = (pieces: readonly Buffer[]): { step: string; data: Buffer } => {
    const reader = new ChunkReader();
    const got: Buffer[] = [];
    let step = "more";
    for (const piece of pieces) {
      if (step !== "more") return { step: "malformed", data: Buffer.concat(got) };
      step = reader.read(piece, (data) => got.push(Buffer.from(data)));
    }
    return { step, data: Buffer.concat(got) };
  };

  it("gives the body whole, however it was cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 8 }),
        fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 20 }),
        fc.boolean(),
        (chunks, cuts, hasTrailer) => {
          const coded = Buffer.concat([
            ...chunks.flatMap((chunk) => [
              Buffer.from(`${chunk.length.toString(16)};x=y\r\n`),
              chunk,
              Buffer.from("\r\n"),
            ]),
            Buffer.from(`0\r\n${hasTrailer ? "X: 1\r\n" : ""}\r\n`),
          ]);
          const pieces: Buffer[] = [];
          for (let at = 0, i = 0; at < coded.length; i++) {
            const end = at + 1 + (cuts[i % cuts.length] ?? 0);
            pieces.push(coded.subarray(at, end));
            at = end;
          }
          const { step, data } = readAll(pieces);
          expect(step).toBe("end");
          expect(data.equals(Buffer.concat(chunks))).toBe(true);
        },
      ),
    );
  });

  it.each([
    "g\r\n",
    "-1\r\n",
    "0x1\r\n",
    " 1\r\n",
    "1\n",
    "\r\n",
    "1\r\nab\r\n",
    "1\r\na\n",
    "0\r\n\r\nX",
    "123456789\r\n",
  ])("refuses %j", (bytes) => {
    expect(readAll([Buffer.from(bytes)]).step).toBe("malformed");
  });
});

describe("a chunked answer of nova", () => {
  const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

  it("reaches the guest whole, with a length", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "garbage", bytes: `${chunked}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n` });
    const reply = await ask(lab, 1, "/x");
    expect(reply.text).toBe("abcde");
    expect(reply.headers["content-length"]).toBe("5");
    expect(reply.headers["transfer-encoding"]).toBeUndefined();
  });

  it.each(["3\r\nabc\r\n", "3\r\nabcX\r\n0\r\n\r\n"])("that ends as %j is shown as broken", async (body) => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "garbage", bytes: chunked + body });
    await expect(ask(lab, 1, "/x")).rejects.toThrow(/ECONNRESET|hang up/);
  });
});

describe("bytes after an answer", () => {
  it("are nobody's answer", async () => {
    await using lab = await startLab();
    const one = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    lab.nova.fault = (_method, path) => (path === "/x" ? { kind: "garbage", bytes: one + one } : undefined);
    expect((await ask(lab, 1, "/x")).text).toBe("ok");
    expect((await ask(lab, 2, "/latest/meta-data/hostname")).text).toBe("guest-2");
    expect((await ask(lab, 1, "/latest/meta-data/hostname")).text).toBe("guest-1");
  });
});
