import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Outbox } from "../../../src/agent/proxy/outbox.ts";
import { ChunkReader } from "../../../src/agent/proxy/upstream/chunks.ts";
import { parseNovaUrl, plainError } from "../../../src/agent/proxy/upstream/connect.ts";
import { parseResponseHead } from "../../../src/agent/proxy/upstream/response-head.ts";
import { WireLine } from "../../../src/agent/proxy/upstream/wire-line.ts";
import { ask, startLab } from "./lab.ts";

describe("plainError()", () => {
  it("says what the first address of a name said, where each has failed", () => {
    const error = new AggregateError([new Error("connect ECONNREFUSED ::1:9"), new Error("other")]);
    expect(plainError(error).message).toBe("connect ECONNREFUSED ::1:9");
    expect(plainError(new Error("plain")).message).toBe("plain");
  });
});

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
    "123456789\r\n",
    "00x1\r\n",
  ])("refuses %j", (bytes) => {
    expect(readAll([Buffer.from(bytes)]).step).toBe("malformed");
  });
});

describe("a chunked answer of nova", () => {
  const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

  it.each(["\r\n", "X", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"])(
    "is whole also with %j behind it, which is nobody's",
    async (surplus) => {
      await using lab = await startLab();
      const bytes = `${chunked}000000000002\r\nok\r\n000000000000\r\n\r\n${surplus}`;
      lab.nova.fault = (_method, path) => (path === "/x" ? { kind: "garbage", bytes } : undefined);
      expect((await ask(lab, 1, "/x")).text).toBe("ok");
      expect((await ask(lab, 2, "/latest/meta-data/hostname")).text).toBe("guest-2");
      expect((await ask(lab, 1, "/latest/meta-data/hostname")).text).toBe("guest-1");
    },
  );

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

class HeldOutbox extends Outbox {
  override add(): void {
    // What is written stays.
  }
}

describe("WireLine", () => {
  interface Scripted {
    readonly method: string;
    readonly tag: string;
    readonly body: Uint8Array;
    readonly coding: "length" | "chunked";
    /** Where it is cut in two, if it is. */
    readonly cut: number | undefined;
  }

  const bytesOf = ({ tag, body, coding }: Scripted): Buffer => {
    const head = `HTTP/1.1 200 OK\r\nX-Tag: ${tag}\r\nKeep-Alive: 5\r\n`;
    if (coding === "length")
      return Buffer.concat([Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n`), body]);
    const chunk =
      body.length === 0 ? [] : [Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from("\r\n")];
    return Buffer.concat([
      Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n`),
      ...chunk,
      Buffer.from("0\r\n\r\n"),
    ]);
  };

  const heard = (line: WireLine, method: string) =>
    new Promise<{ headers: readonly string[]; body: Buffer }>((resolve, reject) => {
      let headers: readonly string[] = [];
      const parts: Buffer[] = [];
      line.ask(
        {
          method,
          path: "/",
          headers: [],
          headerLines: "",
          identity: { headers: [], lines: "" },
          body: undefined,
        },
        {
          onHead: (head) => {
            headers = head.headers;
          },
          onBody: (chunk) => parts.push(chunk),
          onWholeBody: (text) => parts.push(Buffer.from(text, "latin1")),
          onEnd: () => resolve({ headers, body: Buffer.concat(parts) }),
          onFailure: (kind, error) => reject(new Error(`${kind}: ${error.message}`)),
        },
      );
    });

  it("tells each answer from the one before it, alike or not, in one piece or in two", async () => {
    let script: Scripted | undefined;
    let connections = 0;
    const server = createServer({ noDelay: true }, (socket) => {
      connections++;
      socket.on("error", () => undefined);
      socket.on("data", () => {
        const { method, cut } = script as Scripted;
        const bytes = bytesOf(script as Scripted);
        const end = method === "HEAD" ? bytes.indexOf("\r\n\r\n") + 4 : bytes.length;
        const at = Math.min(cut ?? end, end);
        socket.write(bytes.subarray(0, at));
        if (at < end) setImmediate(() => socket.write(bytes.subarray(at, end)));
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const line = new WireLine(
      parseNovaUrl(`http://127.0.0.1:${port}`),
      Buffer.alloc(65_536),
      new Outbox(),
      () => undefined,
    );
    const answer = fc.record({
      method: fc.constantFrom("GET", "GET", "GET", "HEAD"),
      tag: fc.constantFrom("a", "a", "a", "b"),
      body: fc.uint8Array({ maxLength: 12 }),
      coding: fc.constantFrom("length" as const, "length" as const, "chunked" as const),
      cut: fc.option(fc.nat({ max: 120 }), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(answer, { minLength: 1, maxLength: 12 }), async (answers) => {
        for (script of answers) {
          const { headers, body } = await heard(line, script.method);
          expect(headers.slice(0, 2)).toEqual(["X-Tag", script.tag]);
          expect(headers).not.toContain("Keep-Alive");
          expect(body).toEqual(Buffer.from(script.method === "HEAD" ? [] : script.body));
        }
      }),
      { numRuns: 60 },
    );
    expect(connections).toBe(1);
    line.close();
    server.close();
  });

  it("takes nothing for the answer to a question that has not left", async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => undefined);
      socket.once("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const line = new WireLine(
      parseNovaUrl(`http://127.0.0.1:${port}`),
      Buffer.alloc(65_536),
      new HeldOutbox(),
      () => undefined,
    );
    expect((await heard(line, "GET")).body.toString()).toBe("one");
    const second = heard(line, "GET");
    sockets[0]?.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    await expect(second).rejects.toThrow("stale: nova answered before it was asked");
    line.close();
    server.close();
  });
});
