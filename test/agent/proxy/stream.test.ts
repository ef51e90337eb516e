import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { type Lab, RawGuest, rawExchange, startLab, until } from "./lab.ts";
import { RawNova } from "./raw-nova.ts";

async function labOf(nova: RawNova, holdMs: number): Promise<Lab> {
  const lab = await startLab({ holdMs });
  lab.proxy.reconfigure({ ...lab.settings, novaUrls: [nova.url] });
  return lab;
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
const ok = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

describe("an answer that is read late", () => {
  it("keeps no other guest's question waiting on the line that it came over", async () => {
    const mid = "x".repeat(262_200);
    let slow: Socket | undefined;
    await using nova = await RawNova.start((socket, request) => {
      if (request.startsWith("GET /slow")) slow = socket;
      else socket.write(ok(request.startsWith("GET /mid") ? mid : "small"));
    });
    await using lab = await labOf(nova, 1_500);
    const late = await RawGuest.connect(lab, 1);
    late.send(get("/slow") + get("/mid"));
    await until(() => nova.requests.length === 2);
    const { proxy } = lab;
    for (let guest = 2; guest <= 4; guest++)
      expect((await rawExchange(lab, guest, get("/small"))).statuses).toEqual([200]);
    slow?.write(ok("slow"));
    await until(() => proxy.status().inFlight === 0);
    await until(() => late.text.endsWith(mid));
    expect(late.statuses).toEqual([200, 200]);
    late.close();
  });
});
