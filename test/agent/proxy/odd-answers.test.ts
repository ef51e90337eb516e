import { mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Lab, type RawGuest, rawExchange, startLab } from "./lab.ts";
import { certificates, RawNova } from "./raw-nova.ts";

const folder = mkdtempSync(join(tmpdir(), "mn-odd-"));
const tls = certificates(folder);

afterAll(() => rmSync(folder, { recursive: true }));

async function labOf(nova: RawNova): Promise<Lab> {
  const lab = await startLab();
  const trusting = { ...lab.settings.tls, caFile: join(folder, "cert.pem"), serverName: "nova.example" };
  lab.proxy.reconfigure({ ...lab.settings, novaUrls: [nova.url], tls: trusting });
  return lab;
}

const GET = "GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n";
const POST = "POST /password HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx";
const OK = "HTTP/1.1 200 OK\r\n";

/** Every way to nova: what is read over one must be read alike over the others. */
const LINES = [
  ["the lean line", GET, undefined],
  ["undici, a POST", POST, undefined],
  ["undici, https", GET, tls],
] as const;

describe.each(LINES)("over %s", (_, request, certificate) => {
  /** What a guest gets where nova always answers so, and how often nova was asked. */
  async function heard(
    answer: string | ((socket: Socket, count: number, tcp: Socket) => void),
  ): Promise<RawGuest & { asked: number }> {
    const write = typeof answer === "string" ? (socket: Socket) => socket.write(answer, "latin1") : answer;
    await using nova = await RawNova.start(
      (socket, _request, count, tcp) => write(socket, count, tcp),
      certificate,
    );
    await using lab = await labOf(nova);
    const guest = await rawExchange(lab, 1, request);
    return Object.assign(guest, { asked: nova.requests.length });
  }

  it.each(["100 Continue", "102 Processing", "103 Early Hints\r\nLink: x"])(
    "an answer comes whole after %j, in one piece or byte by byte",
    async (interim) => {
      const heads = `HTTP/1.1 ${interim}\r\n\r\n`.repeat(2);
      const whole = `${heads}${OK}Content-Length: 2\r\n\r\nok`;
      const alike = [
        await heard(whole),
        await heard((socket) => {
          let at = 0;
          const more = (): void => {
            socket.write(whole.charAt(at++));
            if (at < whole.length) setImmediate(more);
          };
          more();
        }),
      ];
      for (const { text, asked } of alike) {
        expect(text).toMatch(/^HTTP\/1\.1 200 (OK)?\r\nContent-Length: 2\r\n.*\r\n\r\nok$/s);
        expect(asked).toBe(1);
      }
    },
  );

  describe.each(["fin", "rst"])("an answer that breaks off within its head by a %s", (by) => {
    const breakOff = (socket: Socket, _count: number, tcp: Socket): void => {
      socket.write("HTTP/1.1 200 OK\r\nConte");
      setTimeout(() => (by === "fin" ? socket.end() : tcp.resetAndDestroy()), 30);
    };

    it(request === POST ? "is 502, since a POST is asked once" : "is asked for once more", async () => {
      const { statuses, asked } = await heard((socket, count, tcp) => {
        if (count === 1) breakOff(socket, count, tcp);
        else socket.write(`${OK}Content-Length: 2\r\n\r\nok`);
      });
      expect([statuses, asked]).toEqual(request === POST ? [[502], 1] : [[200], 2]);
    });

    it("is shown as broken, and a POST as 502, where the next one does so too", async () => {
      const { statuses, state, asked } = await heard(breakOff);
      expect([statuses, state, asked]).toEqual(request === POST ? [[502], "open", 1] : [[], "rst", 2]);
    });
  });

  it("an answer without content has no length, whatever nova says", async () => {
    const { text } = await heard("HTTP/1.1 204 No Content\r\nX-A: 1\r\ncontent-length: 2\r\n\r\nok");
    expect(text).toMatch(/^HTTP\/1\.1 204 No Content\r\nX-A: 1\r\nConnection: keep-alive\r\n\r\n$/);
  });

  const chunked = "2\r\nok\r\n0\r\n\r\n";
  it.each([
    ["a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n"],
    ["a coding", `${OK}Transfer-Encoding: gzip\r\n\r\nok`],
    ["a coding in chunks", `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n${chunked}`],
    ["a coding that is none", `${OK}Transfer-Encoding: identity\r\n\r\nok`],
    ["chunks in chunks", `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n${chunked}`],
    ["HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    ["a head with bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"],
    ["a head with one bare LF", "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 2\r\n\r\nok"],
    ["a head that is none", "hello world"],
    ["HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"],
  ])("%s is 502", async (_what, answer) => {
    expect((await heard(answer)).statuses).toEqual([502]);
  });
});
